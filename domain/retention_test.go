package domain_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

const lines = "execution.log_line"

var opened = domain.AccountRegistered{AccountID: ada.AccountID, Email: ada.Email, Name: ada.Name}

func retain(days *int) domain.SetRetention {
	return domain.SetRetention{AccountID: ada.AccountID, Days: map[string]*int{lines: days}}
}

func TestARetentionIsAFactWhenItChanges(t *testing.T) {
	thirty := domain.RetentionChanged{Kind: lines, Days: ptr(30)}
	given[domain.Account](opened).then(t, retain(ptr(30)).Decide, thirty)
	given[domain.Account](opened, thirty).then(t, retain(ptr(31)).Decide, domain.RetentionChanged{Kind: lines, Days: ptr(31)})
	given[domain.Account](opened, thirty).then(t, retain(nil).Decide, domain.RetentionChanged{Kind: lines})
	for name, unchanged := range map[string]spec[domain.Account]{
		"the same":    given[domain.Account](opened, domain.RetentionChanged{Kind: lines, Days: ptr(7)}),
		"none at all": given[domain.Account](opened, thirty, domain.RetentionChanged{Kind: lines}),
	} {
		days := map[string]*int{"the same": ptr(7)}[name]
		events, err := retain(days).Decide(unchanged.state)
		require.NoError(t, err, name)
		require.Empty(t, events, name)
	}
	given[domain.Account]().refused(t, domain.NotFound, retain(ptr(30)).Decide)
}

func TestOnlyWhatNoDecisionDependsOnHasARetention(t *testing.T) {
	require.Equal(t, []string{lines}, domain.ArchivableKinds())
	for _, days := range []int{domain.MinRetentionDays - 1, domain.MaxRetentionDays + 1, -30} {
		refusal := given[domain.Account](opened).refused(t, domain.Invalid, retain(&days).Decide)
		require.Equal(t, []string{lines}, fieldsOf(refusal))
	}
	cmd := domain.SetRetention{AccountID: ada.AccountID, Days: map[string]*int{"execution.started": ptr(30), "key.used": nil}}
	refusal := given[domain.Account](opened).refused(t, domain.Invalid, cmd.Decide)
	require.Equal(t, []string{"execution.started", "key.used"}, fieldsOf(refusal))
	require.Contains(t, refusal.Message, "What can be archived is: execution.log_line.")
}

func TestAFoldLeavesTheStateBeforeItAlone(t *testing.T) {
	before := domain.Fold[domain.Account](opened, domain.RetentionChanged{Kind: lines, Days: ptr(30)})
	after := before.Evolve(domain.RetentionChanged{Kind: lines, Days: ptr(7)}).Evolve(domain.RetentionChanged{Kind: "other", Days: ptr(1)})
	require.Equal(t, domain.Retention{lines: 30}, before.Retention)
	require.Equal(t, domain.Retention{lines: 7, "other": 1}, after.Retention)
	require.NotEqual(t, uuid.Nil, after.ID)
}
