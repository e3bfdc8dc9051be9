package archive

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// runLock is the advisory lock of the one archiver that may be at work on a log ("voltrun\5").
const runLock = 0x766f6c7472756e05

// fileNamespace makes the ids of the streams that hold the facts about files. It must never change.
var fileNamespace = uuid.MustParse("a0c3f2f4-6c58-4d5e-9d0a-3b7f1c9e5d21")

// fileStream is the stream of the fact about a file.
func fileStream(file string) uuid.UUID { return uuid.NewSHA1(fileNamespace, []byte(file)) }

// ErrBusy answers when another archiver is at work on the log.
var ErrBusy = errors.New("another archive run is at work on this log; wait until it has ended")

// Config says what an Archiver does.
type Config struct {
	Dir       string                   // where the files are; it is made when it is not there
	Retention map[string]time.Duration // the operator's, by kind of event, for accounts that have none of their own
	Now       func() time.Time         // nil means time.Now
	Logger    *slog.Logger
}

// Archiver moves the payloads of old events out of the log into files. Servers may run while it works. It may be killed
// at any moment: no payload leaves the log before its file is durable and recorded, and the next run completes what
// was begun.
type Archiver struct {
	store     *postgres.Store
	codec     *eventstore.Codec
	dir       string
	retention map[string]time.Duration
	now       func() time.Time
	logger    *slog.Logger
	step      func(name string) // called between steps; does nothing but in tests
}

// NewArchiver makes an archiver of a log.
func NewArchiver(store *postgres.Store, codec *eventstore.Codec, c Config) *Archiver {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Archiver{store, codec, c.Dir, c.Retention, c.Now, c.Logger, func(string) {}}
}

// Run archives everything that is due, and before that completes what an earlier run has begun. It reports each file when
// its payloads have left the log.
func (a *Archiver) Run(ctx context.Context, report func(domain.LogArchived)) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := openFolder(a.dir)
	if err != nil {
		return fmt.Errorf("open the archive: %w", err)
	}
	defer dir.Close()
	if err := a.completeBegun(ctx, dir, report); err != nil {
		return err
	}
	due, err := a.Due(ctx)
	if err != nil {
		return err
	}
	for _, d := range due {
		file, err := a.write(ctx, dir, d)
		if err == nil {
			err = a.finish(ctx, dir, file, report)
		}
		if err != nil {
			return fmt.Errorf("archive events %d to %d: %w", d.From, d.To, err)
		}
	}
	return nil
}

// lock makes this archiver the only one, until it is unlocked or its connection is gone.
func (a *Archiver) lock(ctx context.Context) (unlock func(), err error) {
	conn, err := a.store.Pool().Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	var locked bool
	err = conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(runLock)).Scan(&locked)
	if err == nil && !locked {
		err = ErrBusy
	}
	if err != nil {
		conn.Release()
		return nil, err
	}
	return func() {
		if _, err := conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", int64(runLock)); err != nil {
			_ = conn.Conn().Close(context.WithoutCancel(ctx)) // gives it back as well
		}
		conn.Release()
	}, nil
}

// file is a row of the archives.
type file struct {
	Name     string `db:"file"`
	From     int64  `db:"from_position"`
	To       int64  `db:"to_position"`
	Complete bool   `db:"complete"`
	Fact     []byte `db:"fact"` // nil until the file is durable
}

// completeBegun goes on with the files of a run that was killed.
func (a *Archiver) completeBegun(ctx context.Context, dir *os.Root, report func(domain.LogArchived)) error {
	rows, err := a.store.Pool().Query(ctx, "select file, from_position, to_position, complete, convert_to(fact::text, 'UTF8') as fact from archives where stripped_at is null")
	if err != nil {
		return fmt.Errorf("list the files of the archive: %w", err)
	}
	begun, err := pgx.CollectRows(rows, pgx.RowToStructByName[file])
	if err != nil {
		return fmt.Errorf("list the files of the archive: %w", err)
	}
	for _, f := range begun {
		if f.Fact == nil {
			err = a.discard(ctx, dir, f)
		} else {
			err = a.finish(ctx, dir, f, report)
		}
		if err != nil {
			return fmt.Errorf("go on with the archive file %s: %w", f.Name, err)
		}
	}
	return nil
}

// discard removes a file that was not finished, and then what stands about it.
func (a *Archiver) discard(ctx context.Context, dir *os.Root, f file) error {
	for _, name := range []string{f.Name + draftSuffix, f.Name} {
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := syncFolder(dir); err != nil {
		return err
	}
	_, err := a.store.Pool().Exec(ctx, "delete from archives where file = $1", f.Name)
	return err
}

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
