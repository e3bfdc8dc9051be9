package projections

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Audit says which events of an account are wanted. What is zero is no condition.
type Audit struct {
	Types       []string
	ActorKind   domain.ActorKind
	ActorID     uuid.UUID
	ActorPrefix string
	Subject     uuid.UUID
	Since       time.Time // happened then or later
	Until       time.Time // happened then or earlier
	From, To    Position  // both included
	OldestFirst bool

	After Position // the Next of the page before; 0: start at the beginning
	Limit int      // at least 1
}

// maxScanned bounds how many events a page looks at to find those that are wanted.
const maxScanned = 5000

// Audit returns a page of what happened to an account. It may have fewer events than the limit, even none, and a page may
// follow all the same: at most a few thousand events are looked at for one.
func (h *History) Audit(ctx context.Context, accountID uuid.UUID, a Audit) (Page[Entry], error) {
	s, err := h.span(ctx, accountID, a)
	if err != nil {
		return Page[Entry]{}, err
	}
	events, next, err := h.scan(ctx, accountID, a, s)
	if err != nil {
		return Page[Entry]{}, fmt.Errorf("read the history of account %s: %w", accountID, err)
	}
	entries, err := h.entries(ctx, events)
	return Page[Entry]{Items: entries, Next: next}, err
}

// span is where events are looked for: between two positions, neither of which is included. Times that no position stands
// for, because the account was imported later, are left to be compared with each event.
type span struct {
	after, before Position
	since, until  time.Time
}

// span turns limits in time or place into positions.
func (h *History) span(ctx context.Context, accountID uuid.UUID, a Audit) (s span, err error) {
	s = span{after: max(0, a.From-1), before: math.MaxInt64}
	if a.To > 0 && a.To < math.MaxInt64 {
		s.before = a.To + 1
	}
	if !a.Since.IsZero() {
		// Times have microseconds here: what was recorded before Since was so by the microsecond before.
		earlier, imported, err := h.positionAt(ctx, accountID, a.Since.Add(-time.Microsecond))
		switch {
		case err != nil:
			return s, err
		case imported > 0:
			s.since = a.Since
		default:
			s.after = max(s.after, earlier)
		}
	}
	if !a.Until.IsZero() {
		latest, imported, err := h.positionAt(ctx, accountID, a.Until)
		switch {
		case err != nil:
			return s, err
		case imported > 0:
			s.until, latest = a.Until, imported
		}
		s.before = min(s.before, latest+1)
	}
	switch {
	case a.After > 0 && a.OldestFirst:
		s.after = max(s.after, a.After)
	case a.After > 0:
		s.before = min(s.before, a.After)
	}
	return s, nil
}

// head is the newest position.
func (h *History) head(ctx context.Context) (head Position, err error) {
	if err := h.db.QueryRow(ctx, "select position from head").Scan(&head); err != nil {
		return 0, fmt.Errorf("read the head of the log: %w", err)
	}
	return head, nil
}

// positionAt is the newest position that was recorded at or before a time, and the one up to which the account was imported
// later, or 0 when it was not.
func (h *History) positionAt(ctx context.Context, accountID uuid.UUID, at time.Time) (position, imported Position, err error) {
	err = h.db.QueryRow(ctx, "select position_at($1), imported_after($2, $1)", at, accountID).Scan(&position, &imported)
	if err != nil {
		return 0, 0, fmt.Errorf("find the position at %s: %w", at, err)
	}
	return position, imported, nil
}

// scan reads the events of a page, and the place behind which the next one begins.
func (h *History) scan(ctx context.Context, accountID uuid.UUID, a Audit, s span) ([]eventstore.Event, Position, error) {
	var events []eventstore.Event
	var next Position
	sql, args := a.query(accountID, s)
	batch := walkIndexes()
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		events, next, err = a.page(rows)
		return err
	})
	err := h.db.SendBatch(ctx, batch).Close()
	return events, next, err
}

// walkIndexes begins a batch, which is one round trip and one transaction, of queries that Postgres must answer by walking
// along an index, or along several that it merges. By its own estimate it may well read a whole history and sort that for
// the first few events: wherever it takes a long one for short. And it plans each query once only, which takes longer
// than to run it, the more so the more partitions there are.
func walkIndexes() *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(`select set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true),
		set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)`)
	return batch
}

// page reads what auditQuery answers.
func (a Audit) page(rows pgx.Rows) (events []eventstore.Event, next Position, err error) {
	for rows.Next() {
		var wanted, last, full bool
		event, err := postgres.ScanEvent(scannedRow{rows, []any{&wanted, &last, &full}})
		if err != nil {
			return nil, 0, err
		}
		if len(events) == a.Limit || full {
			return events, events[len(events)-1].Position, nil
		}
		if wanted {
			events = append(events, event)
		}
		if last {
			return events, event.Position, nil
		}
	}
	return events, 0, rows.Err()
}

// scannedRow is an event's row with more columns behind, which go elsewhere.
type scannedRow struct {
	pgx.CollectableRow
	more []any
}

// Scan implements pgx.CollectableRow.
func (r scannedRow) Scan(dest ...any) error {
	return r.CollectableRow.Scan(append(slices.Clip(dest), r.more...)...)
}

// masses are the types of what executions and keys produce in masses.
var masses = types(domain.ExecutionStarted{}, domain.ExecutionLogLine{}, domain.ExecutionCompleted{}, domain.ExecutionFailed{}, domain.KeyUsed{})

// milestones is the condition of the partial index that leaves them out. Postgres takes that index only when a query repeats
// it word by word, so masses are in the order of the migration that made it.
var milestones = "type <> all ('{" + strings.Join(masses, ",") + "}'::text[])"

// auditQuery looks at no more events than it must: it stops when the page is full, and at the latest when it has looked at
// as many as it may. The last of those comes back even when it is not wanted, as the place where the next page goes on. One
// event more than the page has tells whether there is another page. The data of what does not fit on a page stays behind.
//
//	$1 account  $2 after  $3 before  $4 how many to look at  $5 bytes of a page  $6 one event more than a page
const auditQuery = `
	select {columns}, wanted, place = $4, bytes_before >= $5
	from (
		select *, coalesce(sum(octet_length(data)) over (order by {order} rows between unbounded preceding and 1 preceding), 0) as bytes_before
		from (
			select *, row_number() over (order by {order}) as place, coalesce({wanted}, false) as wanted
			from ({source} order by {order} limit $4) source
		) scanned
		where wanted or place = $4
	) found
	order by {order} limit $6`

// The ways to an account's events. Postgres must not know that the account is only one: where it takes that for a frequent
// one it would look through the log by position, past the events of all others. So the account is one of a list, and the
// order is one that only the indexes of accounts have.
var (
	ofAccount = `select * from events where account_id = any(array[$1]::uuid[]) and position > $2 and position < $3`

	ofTypes = `
		select e.* from unnest({types}::text[]) wanted_types (type) cross join lateral (
			select * from events
			where account_id = any(array[$1]::uuid[]) and type = wanted_types.type and ` + milestones + `
			  and position > $2 and position < $3
			order by {order} limit $4
		) e`

	ofStreams = `
		select e.* from streams s cross join lateral (
			select * from events
			where stream_id = s.stream_id and account_id = $1 and position >= s.first_position
			  and version > stream_version_at(s.stream_id, $2) and version <= stream_version_at(s.stream_id, $3::bigint - 1)
			order by version {direction} limit $4
		) e where s.stream_id = any({streams})`
)

var eventColumnsWithin = strings.Replace(postgres.EventColumns, " data", " case when bytes_before < $5 then data end", 1)

// query takes the way on which the fewest events are looked at that are not wanted.
func (a Audit) query(accountID uuid.UUID, s span) (string, []any) {
	args := arguments{accountID, s.after, s.before, a.Limit + 1, maxPageBytes, a.Limit + 1}
	direction := "desc"
	if a.OldestFirst {
		direction = "asc"
	}
	source, conditions := a.source(&args)
	conditions = append(conditions, s.conditions(&args)...)
	if len(conditions) > 0 {
		args[3] = max(maxScanned, a.Limit+1)
	}
	wanted := strings.Join(append(conditions, "true"), " and ")
	sql := strings.NewReplacer("{source}", source, "{columns}", eventColumnsWithin, "{wanted}", wanted).Replace(auditQuery)
	sql = strings.ReplaceAll(sql, "{order}", "account_id {direction}, position {direction}")
	return strings.ReplaceAll(sql, "{direction}", direction), args
}

// source is the way to the events, and the conditions that are left to be checked on it.
func (a Audit) source(args *arguments) (source string, conditions []string) {
	byType := len(a.Types) > 0
	switch {
	case a.Subject != uuid.Nil:
		streams := []uuid.UUID{a.Subject, domain.KeyUseStream(a.Subject)}
		source = strings.Replace(ofStreams, "{streams}", args.add(streams), 1)
	case byType && !slices.ContainsFunc(a.Types, isMass):
		source, byType = strings.Replace(ofTypes, "{types}", args.add(a.Types), 1), false
	default:
		source = ofAccount
	}
	if byType {
		conditions = append(conditions, "type = any("+args.add(a.Types)+")")
	}
	if a.ActorKind != "" {
		conditions = append(conditions, "actor_kind = "+args.add(a.ActorKind))
	}
	if a.ActorID != uuid.Nil {
		conditions = append(conditions, "actor_id = "+args.add(a.ActorID))
	}
	if a.ActorPrefix != "" {
		conditions = append(conditions, "actor_prefix = "+args.add(a.ActorPrefix))
	}
	return source, conditions
}

// conditions are those on the times of events.
func (s span) conditions(args *arguments) (conditions []string) {
	if !s.since.IsZero() {
		conditions = append(conditions, "happened_at(headers, recorded_at) >= "+args.add(s.since))
	}
	if !s.until.IsZero() {
		conditions = append(conditions, "happened_at(headers, recorded_at) <= "+args.add(s.until))
	}
	return conditions
}

func isMass(eventType string) bool { return slices.Contains(masses, eventType) }

// arguments are the arguments of a query that is being put together.
type arguments []any

// add returns the parameter that stands for a value.
func (a *arguments) add(value any) string {
	*a = append(*a, value)
	return fmt.Sprintf("$%d", len(*a))
}
