package postgres

import (
	"context"
	"fmt"
	"iter"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
)

// Kept is a payload that is safe outside the log: its position, and the SHA-256 of its stored form.
type Kept struct {
	Position eventstore.Position
	SHA256   [32]byte
}

// StripPayloads takes the kept payloads out of a closed partition: everything else of their events stays. The partition is
// rewritten, and done runs in the transaction that puts the new one in its place.
//
// It fails, and changes nothing, when a kept payload is not in the partition or not the one that stands there.
func (s *Store) StripPayloads(ctx context.Context, p Partition, kept iter.Seq2[Kept, error], logger *slog.Logger, done func(pgx.Tx) error) error {
	w, end, err := s.rewrite(ctx, p, logger)
	if err == nil {
		defer end()
		err = w.strip(ctx, kept, done)
	}
	if err != nil {
		return fmt.Errorf("strip the payloads of events %d to %d: %w", p.From, p.To, err)
	}
	return nil
}

func (w rewriting) strip(ctx context.Context, kept iter.Seq2[Kept, error], done func(pgx.Tx) error) error {
	w.from = w.partition.table() + " e left join kept k on k.position = e.position and k.sha256 = sha256(e.data)"
	w.payload = "case when k.position is null then e.data end"
	err := pgx.BeginFunc(ctx, w.source, func(tx pgx.Tx) error {
		count, err := listKept(ctx, tx, kept)
		if err != nil {
			return err
		}
		if err := w.build(ctx); err != nil {
			return err
		}
		return w.compareStripped(ctx, tx, count)
	})
	if err != nil {
		return err
	}
	return w.swap(ctx, done) // with no transaction of our own in the way
}

// listKept puts the kept payloads into a table of the transaction.
func listKept(ctx context.Context, tx pgx.Tx, kept iter.Seq2[Kept, error]) (int64, error) {
	_, err := tx.Exec(ctx, "create temporary table kept (position bigint not null primary key, sha256 bytea not null) on commit drop")
	if err != nil {
		return 0, err
	}
	next, stop := iter.Pull2(kept)
	defer stop()
	count, err := tx.CopyFrom(ctx, pgx.Identifier{"kept"}, []string{"position", "sha256"}, pgx.CopyFromFunc(func() ([]any, error) {
		k, err, more := next()
		if err != nil || !more {
			return nil, err
		}
		return []any{int64(k.Position), k.SHA256[:]}, nil
	}))
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, "analyze kept")
	return count, err
}

// compareStripped makes sure that the copy is the partition without the kept payloads, and that those were all in it.
func (w rewriting) compareStripped(ctx context.Context, tx pgx.Tx, kept int64) error {
	left, err := w.compare(ctx, tx)
	if err != nil {
		return err
	}
	var before int64
	if err := tx.QueryRow(ctx, "select count(data) from "+w.partition.table()).Scan(&before); err != nil {
		return err
	}
	if missing := kept - (before - left); missing != 0 {
		return fmt.Errorf("%d of the %d payloads that are kept are not those that stand in the log", missing, kept)
	}
	return nil
}
