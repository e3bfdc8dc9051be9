package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// AccountOptions say what of an account is exported.
type AccountOptions struct {
	Archive    eventstore.Archive // has the payloads that are not in the log
	Unfinished bool               // executions that have not ended go along: where they are imported, they are run or given up
}

// streamsAtOnce is how many streams are read in one round trip.
const streamsAtOnce = 200

// ExportAccount writes everything that happened to an account, with its secrets. Servers may run while it works: it sees one
// moment. The streams stand in the order in which they are imported, each as a whole.
func (s Source) ExportAccount(ctx context.Context, key Key, account uuid.UUID, opts AccountOptions, to io.Writer) (Summary, error) {
	x := accountExport{s, opts, account, newWriter(to, key), key.box(), Summary{}}
	err := pgx.BeginTxFunc(ctx, s.Store.Pool(), snapshot, func(tx pgx.Tx) error { return x.run(ctx, tx) })
	if err != nil {
		return Summary{}, fmt.Errorf("export account %s: %w", account, err)
	}
	x.done.SHA256, err = x.out.finish()
	return x.done, err
}

type accountExport struct {
	Source
	AccountOptions
	account uuid.UUID
	out     *writer
	box     *eventstore.Box
	done    Summary
}

func (x *accountExport) run(ctx context.Context, tx pgx.Tx) (err error) {
	if x.done.Header, err = x.header(ctx, tx, oneAccount, x.out.key); err != nil {
		return err
	}
	x.done.Account = x.account
	streams, err := x.streams(ctx, tx)
	if err != nil {
		return err
	}
	if err := x.out.write(record{Header: &x.done.Header}); err != nil {
		return err
	}
	// Where the account is imported it gets a data key of its own.
	if err := x.exportSecrets(ctx, tx, x.out, "owner = $1 and name <> $2", x.account, eventstore.DataKeySecret); err != nil {
		return err
	}
	for len(streams) > 0 {
		n := min(streamsAtOnce, len(streams))
		if err := x.exportStreams(ctx, tx, streams[:n]); err != nil {
			return err
		}
		streams = streams[n:]
	}
	return nil
}

// stream is a stream with events of the account.
type stream struct {
	ID     uuid.UUID
	First  eventstore.Position
	Type   string // of its first event
	Open   bool   // it is an execution that has not ended
	Erased bool   // it says that the account was erased
}

// importOrder sorts streams by what must be there before what: functions before their executions, and last of all what lets
// anybody in. A key's last use counts behind the key. The rest keeps its order.
const importOrder = `case
	when type like 'function.%' then 0
	when type like 'session.%' or type = 'key.created' then 2
	when type = 'key.used' then 3
	when type like 'account.%' or type like 'email.%' then 4
	else 1 end`

// streams lists the account's streams in the order of their import.
func (x *accountExport) streams(ctx context.Context, tx pgx.Tx) ([]stream, error) {
	rows, err := tx.Query(ctx, `
		select stream_id, first, type, open, erased from (
			select stream_id, min(position) as first, (array_agg(type order by position))[1] as type, bool_or(type = 'account.erased') as erased,
				bool_or(type = 'execution.requested') and not bool_or(type in ('execution.completed', 'execution.failed')) as open
			from events where account_id = $1 group by stream_id
		) s order by `+importOrder+`, first`, x.account)
	if err != nil {
		return nil, err
	}
	streams, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stream])
	if err != nil {
		return nil, err
	}
	return streams, x.refuse(streams)
}

// refuse tells what keeps an account from being exported.
func (x *accountExport) refuse(streams []stream) error {
	unfinished, erased, exists := 0, false, false
	for _, s := range streams {
		if s.Open {
			unfinished++
		}
		erased = erased || s.Erased
		exists = exists || s.ID == x.account
	}
	switch {
	case !exists:
		return errors.New("there is no such account")
	case erased:
		return errors.New("it was erased; nobody can read it any more")
	case unfinished > 0 && !x.Unfinished:
		return fmt.Errorf("%d of its executions have not ended; wait for them, or take them along as they are with --unfinished: "+
			"the VoltRun that imports them then runs those that have not begun, and gives up the others", unfinished)
	}
	return nil
}

// exportStreams writes the account's events of some streams.
func (x *accountExport) exportStreams(ctx context.Context, tx pgx.Tx, streams []stream) error {
	ids, firsts := make([]uuid.UUID, len(streams)), make([]eventstore.Position, len(streams))
	for i, s := range streams {
		ids[i], firsts[i] = s.ID, s.First
	}
	// Nothing more is said about the events, or Postgres would look through all of the account for each stream.
	rows, err := tx.Query(ctx, "select "+postgres.EventColumns+` from unnest($1::uuid[], $2::bigint[]) with ordinality as s (stream, first, n)
		cross join lateral (select * from events where stream_id = s.stream and position >= s.first) e order by n, version`, ids, firsts)
	if err != nil {
		return err
	}
	events, err := pgx.CollectRows(rows, postgres.ScanEvent)
	if err != nil {
		return err
	}
	leaves, err := leavesOf(ctx, tx, events)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.AccountID != x.account {
			continue // an email address may have been somebody else's
		}
		if err := x.exportEvent(ctx, e, leaves[e.Position]); err != nil {
			return fmt.Errorf("event %d: %w", e.Position, err)
		}
	}
	return nil
}

// leavesOf returns the leaves of events that the log's proof has already.
func leavesOf(ctx context.Context, tx pgx.Tx, events []eventstore.Event) (map[eventstore.Position][]byte, error) {
	positions := make([]eventstore.Position, len(events))
	for i, e := range events {
		positions[i] = e.Position
	}
	// A tile has the hashes of 256 leaves, of 32 bytes each; the leaf of position 1 is the first.
	rows, err := tx.Query(ctx, `
		select p, substring(t.hashes from ((p - 1) % 256 * 32 + 1)::int for 32)
		from unnest($1::bigint[]) p join tiles t on t.level = 0 and t.index = (p - 1) / 256
		where length(t.hashes) >= ((p - 1) % 256 + 1) * 32`, positions)
	if err != nil {
		return nil, err
	}
	leaves := map[eventstore.Position][]byte{}
	var position eventstore.Position
	var leaf []byte
	_, err = pgx.ForEachRow(rows, []any{&position, &leaf}, func() error {
		leaves[position] = slices.Clone(leaf)
		return nil
	})
	return leaves, err
}

func (x *accountExport) exportEvent(ctx context.Context, e eventstore.Event, leaf []byte) (err error) {
	if e.Data == nil && x.Archive != nil {
		if e.Data, err = x.Archive.Payload(ctx, e.Position); err != nil {
			return err
		}
	}
	disclosure, err := x.Codec.Disclose(ctx, e.NewEvent)
	if errors.Is(err, eventstore.ErrArchived) {
		return errors.New("its payload is in a file of the archive that is not here; say with VOLTRUN_ARCHIVE where the files are")
	}
	if err != nil {
		return err
	}
	if err := checkDisclosure(x.Codec, e, disclosure); err != nil {
		return err
	}
	out := eventOf(e)
	out.Data, out.Disclosure = nil, x.box.Seal(nil, disclosure, e.ID[:], []byte(e.Type))
	out.Leaf = leaf
	x.done.Events++
	return x.out.write(record{Event: out})
}
