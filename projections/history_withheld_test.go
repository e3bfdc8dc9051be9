package projections_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/projections"
)

// In events, bytes are hashes: everything else is text, numbers, times and JSON.
func TestHistoryShowsNoHashesOfSecretsAndTheLogKeepsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	login, err := f.RegisterAccount.Handle(f.ctx, system, domain.RegisterAccount{Email: "ada@example.com", Password: "correct horse", Name: "Ada"})
	require.NoError(t, err)
	_, err = f.RefreshSession.ByToken(f.ctx, system, login.RefreshToken)
	require.NoError(t, err)
	_, err = f.CreateKey.Handle(f.ctx, system, login.Account.ID, "<ci>", nil)
	require.NoError(t, err)

	page, err := f.history(nil).Audit(f.ctx, login.Account.ID, projections.Audit{Limit: 100})
	require.NoError(t, err)
	withheld := 0
	for _, entry := range page.Items {
		var shown map[string]any
		require.NoError(t, json.Unmarshal(entry.Data, &shown))
		for _, name := range hashesOf(entry.Type) {
			require.Equal(t, "(not shown)", shown[name], entry.Type)
			withheld++
		}
		if entry.Type == "key.created" {
			require.Equal(t, "<ci>", shown["name"])
		}
	}
	require.Equal(t, 3, withheld)

	for event, err := range f.store.ReadAll(f.ctx, 0) {
		require.NoError(t, err)
		disclosure, err := f.codec.Disclose(f.ctx, event.NewEvent)
		require.NoError(t, err)
		require.NotContains(t, string(eventstore.Content(disclosure)), "(not shown)")
	}
}

func hashesOf(eventType string) (fields []string) {
	for _, e := range domain.Events() {
		for field := range reflect.TypeOf(e).Fields() {
			if e.EventType() == eventType && field.Type == reflect.TypeFor[[]byte]() {
				fields = append(fields, field.Tag.Get("json"))
			}
		}
	}
	return fields
}
