package eventstore_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// A golden file is an event as some version of VoltRun wrote it. It is never changed: logs hold such events for ever.
// `go test ./eventstore -run Golden -write-golden` adds the files that are missing, for new types and schema versions.
var writeGolden = flag.Bool("write-golden", false, "write the golden files that are missing")

func goldenFile(eventType string, version int) string {
	return filepath.Join("testdata", "golden", fmt.Sprintf("%s.v%d.json", eventType, version))
}

// samples are the values that the golden files of the current schema versions hold.
func samples() []domain.Event {
	id := uuid.MustParse("01900000-0000-7000-8000-000000000001")
	account := uuid.MustParse("01900000-0000-7000-8000-000000000002")
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	text, number, status := "new", 256, domain.FunctionInactive
	return []domain.Event{
		domain.EmailReserved{AccountID: account},
		domain.AccountRegistered{AccountID: account, Email: "ada@example.com", Name: "Ada"},
		domain.RetentionChanged{Kind: "execution.log_line", Days: &number},
		domain.AccountImported{Source: "voltrun/7ppzs4c64g", Events: 1200, SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
		domain.AccountErased{AccountID: account},
		domain.EmailReleased{AccountID: account},
		domain.SessionStarted{SessionID: id, AccountID: account, TokenHash: []byte("hash"), ExpiresAt: at},
		domain.SessionRefreshed{TokenHash: []byte("hash"), ExpiresAt: at},
		domain.SessionRevoked{Reason: "a refresh token was used twice"},
		domain.FunctionCreated{
			FunctionID: id, AccountID: account, Name: "hello", Description: "says hello", Runtime: "nodejs20", Code: "exports.handler = 1",
			EntryPoint: "index.handler", MemoryMB: 128, TimeoutSec: 30,
		},
		domain.FunctionUpdated{FunctionChanges: domain.FunctionChanges{
			Name: &text, Description: &text, Code: &text, EntryPoint: &text, MemoryMB: &number, TimeoutSec: &number, Status: &status,
		}},
		domain.FunctionDeleted{},
		domain.ExecutionRequested{
			ExecutionID: id, AccountID: account, FunctionID: id, FunctionVersion: 3, FunctionName: "hello", Runtime: "nodejs20",
			Input: json.RawMessage(`{"name":"Ada"}`),
		},
		domain.ExecutionStarted{WorkerID: id},
		domain.ExecutionLogLine{Stream: domain.Stdout, Text: "Event: \u0000 ok", At: at},
		domain.ExecutionCompleted{Output: json.RawMessage(`{"statusCode":200}`), DurationMS: 31, MemoryMB: 44},
		domain.ExecutionFailed{Error: "boom", ErrorType: "TypeError", Stack: "at handler (index.js:3:9)", DurationMS: 31, MemoryMB: 44},
		domain.KeyCreated{KeyID: id, AccountID: account, Name: "ci", Prefix: "vr_012345678", Hash: []byte("hash"), ExpiresAt: &at},
		domain.KeyUsed{KeyID: id, At: at},
		domain.KeyDeleted{},
		domain.RequestCarriedOut{Fingerprint: []byte("fingerprint"), At: at},
		domain.LogArchived{
			From: 1, To: 1000000, Types: []string{"execution.log_line"}, Except: []uuid.UUID{account}, Events: 700000,
			File: "events-1-1000000-1.ndjson.gz", SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		},
	}
}

func TestGoldenEventsOfEverySchemaVersionDecodeForEver(t *testing.T) {
	codec := eventstore.DomainCodec(nil)
	written := map[string]domain.Event{}
	for _, e := range samples() {
		written[e.EventType()] = e
	}
	for _, e := range domain.Events() {
		current := codec.SchemaVersion(e.EventType())
		require.Contains(t, written, e.EventType(), "add a sample of the new event type")
		if *writeGolden {
			writeMissing(t, codec, written[e.EventType()])
		}
		for version := 1; version <= current; version++ {
			data, err := os.ReadFile(goldenFile(e.EventType(), version))
			require.NoError(t, err, "run with -write-golden to add the file of a new type or version")
			decoded, err := codec.DecodeContent(e.EventType(), version, data)
			require.NoError(t, err)
			require.Equal(t, written[e.EventType()], decoded, "schema version %d", version)
		}
		encoded := encode(t, codec, written[e.EventType()])
		golden, err := os.ReadFile(goldenFile(e.EventType(), current))
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(string(golden)), string(encoded), "the JSON form changed: raise the schema version and add an upcaster")
	}
}

// encode returns the JSON under which an event of nobody's account is stored.
func encode(t *testing.T, codec *eventstore.Codec, e domain.Event) []byte {
	t.Helper()
	encoded, err := codec.Encode(t.Context(), uuid.New(), e, eventstore.Metadata{})
	require.NoError(t, err)
	disclosure, err := codec.Disclose(t.Context(), encoded)
	require.NoError(t, err)
	return eventstore.Content(disclosure)
}

func writeMissing(t *testing.T, codec *eventstore.Codec, e domain.Event) {
	t.Helper()
	file := goldenFile(e.EventType(), codec.SchemaVersion(e.EventType()))
	if _, err := os.Stat(file); err == nil {
		return
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, append(encode(t, codec, e), '\n'), 0o644))
}

func TestOldSchemaVersionsAreLiftedStepByStep(t *testing.T) {
	wrap := func(field string) eventstore.Upcaster {
		return func(data json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(fmt.Sprintf(`{%q:%s}`, field, data)), nil
		}
	}
	codec := eventstore.NewCodec(nil, []domain.Event{domain.SessionRevoked{}}, map[string][]eventstore.Upcaster{
		"session.revoked": {
			func(data json.RawMessage) (json.RawMessage, error) { return json.Marshal(string(data) + " of old") },
			wrap("reason"),
		},
	})
	require.Equal(t, 3, codec.SchemaVersion("session.revoked"))
	for version, data := range map[int]string{1: "42", 2: `"42 of old"`, 3: `{"reason":"42 of old"}`} {
		e, err := codec.DecodeContent("session.revoked", version, []byte(data))
		require.NoError(t, err)
		require.Equal(t, domain.SessionRevoked{Reason: "42 of old"}, e)
	}
}

func TestWhatTheCodecCannotReadIsAnErrorAndNotAGuess(t *testing.T) {
	codec := eventstore.DomainCodec(nil)
	for name, e := range map[string]eventstore.NewEvent{
		"unknown type":   {Type: "execution.exploded", SchemaVersion: 1, Data: []byte("{}")},
		"future version": {Type: "key.used", SchemaVersion: 2, Data: []byte("{}")},
		"version zero":   {Type: "key.used", SchemaVersion: 0, Data: []byte("{}")},
		"broken JSON":    {Type: "key.used", SchemaVersion: 1, Data: []byte("{")},
	} {
		_, err := codec.DecodeContent(e.Type, e.SchemaVersion, e.Data)
		require.Error(t, err, name)
	}
}
