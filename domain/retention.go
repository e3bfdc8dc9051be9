package domain

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Day is the day that retentions count.
const Day = 24 * time.Hour

// The shortest and the longest retention, in days.
const (
	MinRetentionDays = 1
	MaxRetentionDays = 36_500
)

// archivable are the kinds of events that no decision depends on. Once they are old, what they say can leave the
// database for the archive; that they happened, and when, stays.
var archivable = []string{ExecutionLogLine{}.EventType()}

// ArchivableKinds lists the kinds of events that have a retention.
func ArchivableKinds() []string { return slices.Clone(archivable) }

// Retention says for how many days an account's events of a kind stay in the database before they may move to the archive.
// A kind that is not in it has the operator's retention.
type Retention map[string]int

type (
	// RetentionChanged says for how long the account wants the events of a kind to stay in the database. Without days, the
	// operator's retention holds again.
	RetentionChanged struct {
		Kind string `json:"kind"`
		Days *int   `json:"days,omitempty"`
	}

	// LogArchived says that the payloads of old events are in a file of the archive now and leave the database: those
	// of the given types at the positions from From to To, both included. They are the events of all accounts but
	// those in Except, or of the accounts in Accounts alone.
	LogArchived struct {
		From     int64       `json:"from"`
		To       int64       `json:"to"`
		Types    []string    `json:"types"`
		Accounts []uuid.UUID `json:"accounts"`
		Except   []uuid.UUID `json:"except"`
		Events   int64       `json:"events"`
		File     string      `json:"file"`
		SHA256   string      `json:"sha256"` // of the file, in hex
	}
)

// EventType implements Event.
func (RetentionChanged) EventType() string { return "account.retention_changed" }

// EventType implements Event.
func (LogArchived) EventType() string { return "log.archived" }

// Concerns tells whether payloads of that type and account were archived, at the positions that the fact has.
func (e LogArchived) Concerns(eventType string, account uuid.UUID) bool {
	return slices.Contains(e.Types, eventType) && slices.Contains(archivable, eventType) &&
		(len(e.Accounts) == 0 || slices.Contains(e.Accounts, account)) && !slices.Contains(e.Except, account)
}

// SetRetention asks for a retention of an account's events. Kinds that are not named keep theirs; nil days give a kind
// the operator's.
type SetRetention struct {
	AccountID uuid.UUID
	Days      map[string]*int
}

// Validate checks everything that needs no state.
func (c SetRetention) Validate() error {
	var checks checks
	for _, kind := range slices.Sorted(maps.Keys(c.Days)) {
		if !slices.Contains(archivable, kind) {
			checks.require(false, kind, "%s cannot be archived. What can be archived is: %s.", kind, strings.Join(archivable, ", "))
		} else if days := c.Days[kind]; days != nil {
			checks.between(kind, *days, MinRetentionDays, MaxRetentionDays)
		}
	}
	return checks.err()
}

// Decide implements the rule: what stays as it is, is no fact.
func (c SetRetention) Decide(a Account) ([]Event, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if a.ID == uuid.Nil {
		return nil, Errorf(NotFound, "There is no account %s.", c.AccountID)
	}
	var events []Event
	for _, kind := range slices.Sorted(maps.Keys(c.Days)) {
		days, had := a.Retention[kind]
		if wanted := c.Days[kind]; (wanted != nil) != had || had && *wanted != days {
			events = append(events, RetentionChanged{Kind: kind, Days: wanted})
		}
	}
	return events, nil
}

// evolve returns the retention after a change, and leaves r as it is.
func (r Retention) evolve(e RetentionChanged) Retention {
	next := maps.Clone(r)
	if e.Days == nil {
		delete(next, e.Kind)
		return next
	}
	if next == nil {
		next = Retention{}
	}
	next[e.Kind] = *e.Days
	return next
}
