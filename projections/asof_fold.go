package projections

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// story says which events make up a row of a read model, so that the row can be folded anew from them alone.
type story struct {
	projection *Projection
	created    string // the type of the event that begins a row; the id of its stream is the row's
	// beside is the stream beside a row's own of which the newest event counts; nil: there is none.
	beside func(id uuid.UUID) uuid.UUID
	// source is how a table is made of rows; what is not named is made of them as they are.
	source map[*Table]string
}

var functionsStory = &story{projection: functionsProjection, created: domain.FunctionCreated{}.EventType()}

var keysStory = &story{projection: keysProjection, created: domain.KeyCreated{}.EventType(), beside: domain.KeyUseStream}

// The lines of an execution become one row. Queries read nothing else of them than their text, one line after another;
// and they look for those of each execution, which takes an index where there are many rows.
var executionsStory = &story{
	projection: executionsProjection, created: domain.ExecutionRequested{}.EventType(),
	source: map[*Table]string{logsTable: `select min(position) as position, execution_id,
		string_agg(text, E'\n' order by position) as text from rows group by execution_id`},
}

// past makes rows of read models as they were at a position, or, before an account was imported, at a time.
type past struct {
	history *History
	at      Position  // nothing behind it counts
	until   time.Time // nor what happened later, unless it is zero
}

// creation is where a row begins.
type creation struct {
	Position Position
	StreamID uuid.UUID
}

// end is the position before which those rows of an account were made that there were.
func (p *past) end(ctx context.Context, s *story, accountID uuid.UUID) (end Position, err error) {
	if p.until.IsZero() {
		return p.at + 1, nil
	}
	batch := walkIndexes()
	batch.Queue("select begun_by($1, $2, $3, $4) + 1", accountID, s.created, p.at, p.until).QueryRow(func(row pgx.Row) error {
		return row.Scan(&end)
	})
	if err := p.history.db.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("look for the last %s until %s: %w", s.created, p.until, err)
	}
	return end, nil
}

// created lists the newest rows that an account had made before a position, deleted or not, newest first.
func (p *past) created(ctx context.Context, s *story, accountID uuid.UUID, before Position, limit int) (list []creation, err error) {
	batch := walkIndexes()
	batch.Queue(createdQuery, accountID, s.created, before, limit).Query(func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[creation])
		return err
	})
	if err := p.history.db.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("look for %s: %w", s.created, err)
	}
	return list, nil
}

// createdQuery has a list of accounts for the reason that ofAccount has.
var createdQuery = `
	select position, stream_id from events
	where account_id = any(array[$1]::uuid[]) and type = $2 and ` + milestones + ` and position < $3
	order by account_id desc, position desc limit $4`

// foldTogether is how many rows are folded of what one round trip brings.
const foldTogether = 8

// foldMost folds rows in their order until all are done or enough bytes were read. It returns how many are done, at
// least one when there is any, and how many bytes that were.
func (p *past) foldMost(
	ctx context.Context, s *story, accountID uuid.UUID, rows []creation, most int, changes *Changes,
) (done, bytes int, err error) {
	for group := range slices.Chunk(rows, foldTogether) {
		ids := make([]uuid.UUID, len(group))
		for i, row := range group {
			ids[i] = row.StreamID
		}
		read, err := p.fold(ctx, s, accountID, ids, changes)
		if err != nil {
			return 0, 0, err
		}
		done, bytes = done+len(group), bytes+read.bytes
		if bytes >= most {
			break
		}
	}
	return done, bytes, nil
}

// reading is how many bytes of events were read, and how many events are in the archive and could not be.
type reading struct{ bytes, missing int }

// fold folds what an account's rows were made of, by the same function as the live projection.
func (p *past) fold(ctx context.Context, s *story, accountID uuid.UUID, ids []uuid.UUID, changes *Changes) (read reading, err error) {
	events, err := p.events(ctx, s, accountID, ids)
	if err != nil {
		return read, fmt.Errorf("read %s as of %d: %w", s.projection.Name, p.at, err)
	}
	for _, event := range events {
		if !slices.Contains(s.projection.Types, event.Type) {
			continue
		}
		if event, err = p.history.fetch(ctx, event); err != nil {
			return read, fmt.Errorf("read event %d: %w", event.Position, err)
		}
		read.bytes += len(event.Data)
		recorded, err := decode(ctx, p.history.codec, event)
		if err != nil {
			return read, err
		}
		if _, archived := recorded.Fact.(domain.Archived); archived {
			read.missing++
		}
		s.projection.Fold(recorded, changes)
	}
	return read, nil
}

// The events of a stream that stood in the log at a position, and the newest of them; and those that had happened by a time.
var (
	storyQuery    = streamUpTo("<= stream_version_at($1, $3)")
	newestQuery   = streamUpTo("= stream_version_at($1, $3)")
	storyQueryBy  = streamUpTo("<= stream_version_by($1, $3)")
	newestQueryBy = streamUpTo("= stream_version_by($1, $3)")
)

func streamUpTo(version string) string {
	return "select " + postgres.EventColumns + ` from events where stream_id = $1 and account_id = $2
		and version ` + version + `
		and position >= (select first_position from streams where stream_id = $1) order by version`
}

// events reads the streams of rows up to the position, one after another, in one round trip.
func (p *past) events(ctx context.Context, s *story, accountID uuid.UUID, ids []uuid.UUID) (events []eventstore.Event, err error) {
	story, newest, end := storyQuery, newestQuery, any(p.at)
	if !p.until.IsZero() {
		story, newest, end = storyQueryBy, newestQueryBy, p.until
	}
	batch := walkIndexes()
	collect := func(rows pgx.Rows) (err error) {
		events, err = pgx.AppendRows(events, rows, postgres.ScanEvent)
		return err
	}
	for _, id := range ids {
		batch.Queue(story, id, accountID, end).Query(collect)
		if s.beside != nil {
			batch.Queue(newest, s.beside(id), accountID, end).Query(collect)
		}
	}
	err = p.history.db.SendBatch(ctx, batch).Close()
	return events, err
}
