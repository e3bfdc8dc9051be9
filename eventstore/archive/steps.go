package archive

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	fact := domain.LogArchived{From: f.From, To: f.To, Types: domain.ArchivableKinds(), File: f.Name}
	if len(d.Kept) < len(d.Accounts) {
		fact.Except = d.Kept // the shorter list says the same
	} else {
		fact.Accounts = d.Accounts
	}
	written, err := writeFile(dir, f.Name, a.payloads(ctx, fact))
	if err != nil {
		return f, err
	}
	a.step("written")
	fact.Events, fact.SHA256 = written.events, hex.EncodeToString(written.sha256)
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

// payloads reads what a fact is about from the log.
func (a *Archiver) payloads(ctx context.Context, fact domain.LogArchived) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		// A nil slice is null, which is equal to nothing and different from nothing.
		rows, err := a.store.Pool().Query(ctx, `select position, id, type, commitment, data from events
			where position between $1 and $2 and type = any($3) and (cardinality($4::uuid[]) = 0 or account_id = any($4)) and account_id <> all($5::uuid[])
				and account_id is not null and data is not null order by position`,
			fact.From, fact.To, fact.Types, append([]uuid.UUID{}, fact.Accounts...), append([]uuid.UUID{}, fact.Except...))
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
	if err := a.requireFile(ctx, dir, fact, sum); err != nil {
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

// requireFile makes a file again that an archiver on another host has recorded and left there: what it holds is still in the
// log. A newer version may compress it in another way, and then the file itself is needed.
func (a *Archiver) requireFile(ctx context.Context, dir *os.Root, fact domain.LogArchived, sum []byte) error {
	if _, err := dir.Stat(fact.File); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	written, err := writeFile(dir, fact.File, a.payloads(ctx, fact))
	if err != nil || bytes.Equal(written.sha256, sum) {
		return err
	}
	missing := fmt.Errorf("it was recorded by an archiver that ended, on another host or with another VOLTRUN_ARCHIVE, and cannot be made again "+
		"here as it was: copy it to %s, where every server finds the archive, and run voltrun archive again", a.dir)
	return errors.Join(missing, dir.Remove(fact.File))
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
