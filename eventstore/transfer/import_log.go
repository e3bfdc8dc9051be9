package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// ImportLog writes a whole log into one that has no events: every event as it was, at the same position and with the same
// commitment, and what belongs to it. Each payload that can be opened is compared with its commitment. Unless the file is
// whole and as it was exported, nothing changes. accept is called last, when all is well, and keeps the log from being
// imported when it fails.
func ImportLog(
	ctx context.Context, store *postgres.Store, codec *eventstore.Codec, key Key, from io.Reader, accept func(Header) error,
) (Summary, error) {
	r, err := openReader(from, key)
	if err != nil {
		return Summary{}, err
	}
	if r.header.Of != wholeLog {
		return Summary{}, errors.New("the file holds one account and not a whole log")
	}
	i := logImport{codec: codec, box: key.box(), keys: map[uuid.UUID]eventstore.DataKey{}, erased: map[uuid.UUID]bool{}, done: Summary{Header: r.header}}
	c, stop := newCursor(r)
	defer stop()
	err = store.FillEmpty(ctx, func(tx pgx.Tx, copyEvents func(func() (*eventstore.Event, error)) error) error {
		if err := i.secrets(ctx, tx, c); err != nil {
			return err
		}
		if err := copyEvents(func() (*eventstore.Event, error) { return i.event(c) }); err != nil {
			return err
		}
		if err := i.tables(ctx, tx, c); err != nil {
			return err
		}
		return accept(r.header)
	})
	if errors.Is(err, postgres.ErrNotEmpty) {
		return Summary{}, errors.New("the log here has events already; import a whole log into a VoltRun that has none (a new VOLTRUN_DATA or database)")
	}
	if err != nil {
		return Summary{}, fmt.Errorf("nothing was imported: %w", err)
	}
	i.done.SHA256 = r.sum
	return i.done, nil
}

// logImport writes a whole log into an empty one.
type logImport struct {
	codec  *eventstore.Codec
	box    *eventstore.Box
	keys   map[uuid.UUID]eventstore.DataKey
	erased map[uuid.UUID]bool
	done   Summary
}

// secrets imports the secrets.
func (i *logImport) secrets(ctx context.Context, tx pgx.Tx, c *cursor) error {
	for ; c.record.Secret != nil; c.advance() {
		s := c.record.Secret
		content, err := open(i.box, s.Sealed, s.Owner[:], []byte(s.Name))
		if err != nil {
			return err
		}
		if s.Name == eventstore.ErasedMark {
			i.erased[s.Owner] = true
		}
		if s.Name == eventstore.DataKeySecret {
			if len(content) != len(eventstore.DataKey{}) {
				return errAltered
			}
			i.keys[s.Owner] = eventstore.DataKey(content)
			content = i.codec.WrapDataKey(s.Owner, i.keys[s.Owner])
		}
		_, err = tx.Exec(ctx, `insert into vault (owner, name, secret) values ($1, $2, $3)
			on conflict (owner, name) do update set secret = excluded.secret`, s.Owner, s.Name, content)
		if err != nil {
			return err
		}
	}
	return c.err
}

// event returns the next event, nil behind the last one.
func (i *logImport) event(c *cursor) (*eventstore.Event, error) {
	if c.record.Event == nil {
		if c.err == nil && i.done.Events != int(i.done.Head) {
			return nil, errAltered
		}
		return nil, c.err
	}
	e := c.record.Event.stored()
	if err := i.check(e); err != nil {
		return nil, err
	}
	i.done.Events++
	c.advance()
	return &e, nil
}

// check compares what an event says with its commitment, when that can be known.
func (i *logImport) check(e eventstore.Event) error {
	key, ok := i.keys[e.AccountID]
	_, plain := eventstore.PlainDisclosure(e.Data)
	switch {
	case e.Data == nil:
		i.done.Archived++
		return nil
	case !ok && !plain && !i.erased[e.AccountID]:
		return fmt.Errorf("event %d: the file has no key for account %s, which was not erased: its source has lost a part of its vault",
			e.Position, e.AccountID)
	case !ok && !plain:
		i.done.Erased++
		return nil
	}
	disclosure, err := key.Open(e.NewEvent)
	if err != nil {
		return fmt.Errorf("event %d: %w", e.Position, err)
	}
	return checkDisclosure(i.codec, e, disclosure)
}

// checkDisclosure makes sure that a disclosure is the one that was committed to, and that this version understands it.
func checkDisclosure(codec *eventstore.Codec, e eventstore.Event, disclosure []byte) error {
	if eventstore.Commit(disclosure) != e.Commitment {
		return fmt.Errorf("event %d does not say what the log was committed to", e.Position)
	}
	if _, err := codec.DecodeContent(e.Type, e.SchemaVersion, eventstore.Content(disclosure)); err != nil {
		return fmt.Errorf("event %d: %w", e.Position, err)
	}
	return nil
}

// tables imports the rows of the other tables, to the end of the file.
func (i *logImport) tables(ctx context.Context, tx pgx.Tx, c *cursor) error {
	for _, t := range beside {
		if t.clear == "" {
			continue
		}
		if _, err := tx.Exec(ctx, "do $$ begin if to_regclass('"+t.table+"') is not null then "+t.clear+"; end if; end $$"); err != nil {
			return err
		}
	}
	for ; c.record.Row != nil; c.advance() {
		if err := importRow(ctx, tx, *c.record.Row); err != nil {
			return err
		}
	}
	if c.err == nil && c.more {
		return errAltered // something stands where it does not belong
	}
	return c.err
}

func importRow(ctx context.Context, tx pgx.Tx, r row) error {
	for _, t := range beside {
		if t.table == r.Table {
			_, err := tx.Exec(ctx, "insert into "+t.table+" select * from json_populate_record(null::"+t.table+", $1::json)", string(r.Values))
			return err
		}
	}
	return fmt.Errorf("this VoltRun has no table %q; import the file with the version that exported it or a newer one", r.Table)
}
