package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Due is a closed partition with payloads that are to be archived.
type Due struct {
	postgres.Partition
	Events   int64
	Bytes    int64       // of payloads
	Accounts []uuid.UUID // whose payloads they are
	Kept     []uuid.UUID // the accounts whose payloads stay
}

// Due tells what is to be archived now: of every closed partition, the payloads of the accounts whose retention even its
// newest event has passed.
func (a *Archiver) Due(ctx context.Context) ([]Due, error) {
	closed, err := a.store.ClosedPartitions(ctx)
	if err != nil {
		return nil, err
	}
	complete, err := a.complete(ctx)
	if err != nil {
		return nil, err
	}
	var due []Due
	for _, p := range closed {
		if complete[int64(p.From)] {
			continue
		}
		d, err := a.dueIn(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("see what is due of events %d to %d: %w", p.From, p.To, err)
		}
		if d.Events > 0 {
			due = append(due, d)
		}
	}
	return due, nil
}

// complete are the partitions, by their first position, in which nothing is left to be archived: that stays so.
func (a *Archiver) complete(ctx context.Context) (map[int64]bool, error) {
	rows, err := a.store.Pool().Query(ctx, "select distinct from_position from archives where complete and stripped_at is not null")
	if err != nil {
		return nil, fmt.Errorf("list the files of the archive: %w", err)
	}
	complete := map[int64]bool{}
	var from int64
	_, err = pgx.ForEachRow(rows, []any{&from}, func() error {
		complete[from] = true
		return nil
	})
	return complete, err
}

// held are the payloads that an account still has in a partition.
type held struct {
	Account uuid.UUID
	Events  int64
	Bytes   int64
}

func (a *Archiver) dueIn(ctx context.Context, p postgres.Partition) (Due, error) {
	rows, err := a.store.Pool().Query(ctx, `select account_id, count(*), sum(octet_length(data))
		from events where position between $1 and $2 and type = any($3) and data is not null and account_id is not null
		group by account_id order by account_id`, p.From, p.To, domain.ArchivableKinds())
	if err != nil {
		return Due{}, err
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[held])
	if err != nil {
		return Due{}, err
	}
	due := Due{Partition: p}
	for _, h := range accounts {
		passed, err := a.passed(ctx, h.Account, p)
		if err != nil {
			return Due{}, err
		}
		if !passed {
			due.Kept = append(due.Kept, h.Account)
			continue
		}
		due.Accounts = append(due.Accounts, h.Account)
		due.Events, due.Bytes = due.Events+h.Events, due.Bytes+h.Bytes
	}
	return due, nil
}

// passed tells whether a partition is older than an account's retention, of every kind. The log itself says what that is.
func (a *Archiver) passed(ctx context.Context, accountID uuid.UUID, p postgres.Partition) (bool, error) {
	var account domain.Account
	for stored, err := range a.store.ReadStream(ctx, accountID, 0) {
		if err != nil {
			return false, err
		}
		event, err := a.codec.Decode(ctx, stored.NewEvent)
		if err != nil {
			return false, err
		}
		account = account.Evolve(event)
	}
	age := a.now().Sub(p.Newest)
	for _, kind := range domain.ArchivableKinds() {
		stays, ok := a.retention[kind]
		if days, own := account.Retention[kind]; own {
			stays, ok = time.Duration(days)*domain.Day, true
		}
		if !ok || age < stays {
			return false, nil
		}
	}
	return true, nil
}
