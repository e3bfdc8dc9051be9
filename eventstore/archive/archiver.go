package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/durable"
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
	if err := a.store.SealPlain(ctx, a.codec.Keys(), a.logger); err != nil { // no erasure reaches what is plain in a file
		return err
	}
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
	if err := durable.SyncFolder(dir.Name()); err != nil {
		return err
	}
	_, err := a.store.Pool().Exec(ctx, "delete from archives where file = $1", f.Name)
	return err
}
