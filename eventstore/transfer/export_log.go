package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Summary says what was moved.
type Summary struct {
	Header
	Events   int
	Erased   int    // events whose account was erased: nobody can read them, and their commitments stay
	Archived int    // events whose payload is in the archive and not in the file
	SHA256   []byte // of what the file holds
}

// beside are the tables beside the log that belong to it, as far as this version has them. The read models do not: they are
// built from the log. clear removes what a server has put there that never had an event.
var beside = []struct{ table, where, clear string }{
	{"checkpoints", "consumer not like 'projection.%'", "delete from checkpoints where consumer not like 'projection.%'"},
	{"archives", "fact is not null", ""},
	{"tiles", "true", "delete from tiles"},
	{"heads", "true", "delete from heads where size = 0"},
}

// Source is a log to be exported.
type Source struct {
	Store      *postgres.Store
	Codec      *eventstore.Codec
	Name       string   // of the log, for people
	PublicKeys []string // that its heads are signed with
}

// header is what an export begins with, in a transaction that sees one state of the log.
func (s Source) header(ctx context.Context, tx pgx.Tx, of string, key Key) (Header, error) {
	h := Header{Format: Format, Of: of, ExportedAt: time.Now().UTC().Truncate(time.Second), Source: s.Name, KeyID: key.id(), PublicKeys: s.PublicKeys}
	err := tx.QueryRow(ctx, "select position, recorded_at from head").Scan(&h.Head, &h.HeadAt)
	return h, err
}

var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// ExportLog writes the whole log as it stands, with the secrets that make it readable and what belongs to it. Servers may run
// while it works: it sees one moment. What was archived stays in the archive's files, which have to be copied as well.
func (s Source) ExportLog(ctx context.Context, key Key, to io.Writer) (Summary, error) {
	w := newWriter(to, key)
	var done Summary
	err := pgx.BeginTxFunc(ctx, s.Store.Pool(), snapshot, func(tx pgx.Tx) (err error) {
		if done.Header, err = s.header(ctx, tx, wholeLog, key); err != nil {
			return err
		}
		if done.Head == 0 {
			return errors.New("the log has no events")
		}
		if err := w.write(record{Header: &done.Header}); err != nil {
			return err
		}
		if err := s.exportSecrets(ctx, tx, w, "true"); err != nil {
			return err
		}
		if err := exportEvents(ctx, tx, w, &done); err != nil {
			return err
		}
		return exportTables(ctx, tx, w)
	})
	if err != nil {
		return Summary{}, fmt.Errorf("export the log: %w", err)
	}
	done.SHA256, err = w.finish()
	return done, err
}

// exportSecrets writes rows of the vault.
func (s Source) exportSecrets(ctx context.Context, tx pgx.Tx, w *writer, where string, args ...any) error {
	rows, err := tx.Query(ctx, "select owner, name, secret from vault where "+where+" order by owner, name", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	box := w.key.box()
	for rows.Next() {
		var out secret
		var content []byte
		if err := rows.Scan(&out.Owner, &out.Name, &content); err != nil {
			return err
		}
		if out.Name == eventstore.DataKeySecret {
			unwrapped, err := s.Codec.UnwrapDataKey(out.Owner, content)
			if err != nil {
				return err
			}
			content = unwrapped[:]
		}
		out.Sealed = box.Seal(nil, content, out.Owner[:], []byte(out.Name))
		if err := w.write(record{Secret: &out}); err != nil {
			return err
		}
	}
	return rows.Err()
}

func exportEvents(ctx context.Context, tx pgx.Tx, w *writer, done *Summary) error {
	rows, err := tx.Query(ctx, "select "+postgres.EventColumns+" from events where position <= $1 order by position", done.Head)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := postgres.ScanEvent(rows)
		if err != nil {
			return err
		}
		if e.Data == nil {
			done.Archived++
		}
		done.Events++
		if err := w.write(record{Event: eventOf(e)}); err != nil {
			return err
		}
	}
	return rows.Err()
}

func exportTables(ctx context.Context, tx pgx.Tx, w *writer) error {
	for _, t := range beside {
		var exists bool
		if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", t.table).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			continue
		}
		rows, err := tx.Query(ctx, "select convert_to(row_to_json(t)::text, 'UTF8') from "+t.table+" t where "+t.where)
		if err != nil {
			return err
		}
		var values []byte
		_, err = pgx.ForEachRow(rows, []any{&values}, func() error {
			return w.write(record{Row: &row{t.table, values}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
