package archive

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"os"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// write makes the file of a partition's due payloads, and records it when it is durable.
func (a *Archiver) write(ctx context.Context, dir *os.Root, d Due) (file, error) {
	f, err := a.begin(ctx, dir, d)
	if err != nil {
		return f, err
	}
	a.step("begun")
	written, err := writeFile(dir, f.Name, a.payloads(ctx, d))
	if err != nil {
		return f, err
	}
	a.step("written")
	fact := domain.LogArchived{
		From: f.From, To: f.To, Types: domain.ArchivableKinds(), Events: written.events, File: f.Name, SHA256: hex.EncodeToString(written.sha256),
	}
	if len(d.Kept) < len(d.Accounts) {
		fact.Except = d.Kept // the shorter list says the same
	} else {
		fact.Accounts = d.Accounts
	}
	if f.Fact, err = json.Marshal(fact); err != nil {
		return f, err
	}
	_, err = a.store.Pool().Exec(ctx, "update archives set fact = $2 where file = $1", f.Name, f.Fact)
	a.step("recorded")
	return f, err
}

// begin gives the file a name that no other has, not even one that another log has left in the folder.
func (a *Archiver) begin(ctx context.Context, dir *os.Root, d Due) (file, error) {
	f := file{From: int64(d.From), To: int64(d.To), Complete: len(d.Kept) == 0}
	for n := 1; ; n++ {
		f.Name = fmt.Sprintf("events-%d-%d-%d.ndjson.gz", f.From, f.To, n)
		if _, err := dir.Stat(f.Name); err == nil {
			continue
		}
		tag, err := a.store.Pool().Exec(ctx, "insert into archives (file, from_position, to_position, complete) values ($1, $2, $3, $4) on conflict do nothing",
			f.Name, f.From, f.To, f.Complete)
		if err != nil || tag.RowsAffected() == 1 {
			return f, err
		}
	}
}

// payloads reads what is due of a partition.
func (a *Archiver) payloads(ctx context.Context, d Due) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		rows, err := a.store.Pool().Query(ctx, `select position, id, type, commitment, data from events
			where position between $1 and $2 and type = any($3) and account_id = any($4) and data is not null order by position`,
			d.From, d.To, domain.ArchivableKinds(), d.Accounts)
		if err != nil {
			yield(line{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var l line
			err := rows.Scan(&l.Position, &l.ID, &l.Type, (*[]byte)(&l.Commitment), &l.Data)
			if !yield(l, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(line{}, err)
		}
	}
}

// finish makes a recorded file part of history, and then takes what it holds out of the log.
func (a *Archiver) finish(ctx context.Context, dir *os.Root, f file, report func(domain.LogArchived)) error {
	var fact domain.LogArchived
	if err := json.Unmarshal(f.Fact, &fact); err != nil {
		return err
	}
	sum, err := hex.DecodeString(fact.SHA256)
	if err != nil {
		return err
	}
	if err := a.tell(ctx, fact); err != nil {
		return err
	}
	a.step("told")
	partition := postgres.Partition{From: eventstore.Position(f.From), To: eventstore.Position(f.To)}
	err = a.store.StripPayloads(ctx, partition, kept(ctx, dir, f.Name, sum), a.logger, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "update archives set stripped_at = now() where file = $1", f.Name)
		a.step("swapped")
		return err
	})
	if err != nil {
		return err
	}
	a.step("stripped")
	report(fact)
	return nil
}

// tell appends the fact, unless that was done before.
func (a *Archiver) tell(ctx context.Context, fact domain.LogArchived) error {
	event, err := a.codec.Encode(ctx, uuid.Must(uuid.NewV7()), fact, eventstore.Metadata{Actor: domain.Actor{Kind: domain.ActorSystem}})
	if err != nil {
		return err
	}
	_, err = a.store.Append(ctx, eventstore.Write{
		StreamID: fileStream(fact.File), Expected: eventstore.New, Events: []eventstore.NewEvent{event},
	})
	if eventstore.IsConflict(err) {
		return nil
	}
	return err
}
