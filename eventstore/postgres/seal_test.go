package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
)

// earlyLog is a log of the first version, which sealed nothing, as the migrations leave it: so many lines of an account, and
// of another one behind the first sealBatch.
func earlyLog(t *testing.T, lines int) (s *Store, account uuid.UUID) {
	t.Helper()
	dsn := pgtest.Database(t)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	migrator, err := newMigrator(db)
	require.NoError(t, err)
	_, err = migrator.UpTo(t.Context(), 1)
	require.NoError(t, err)
	account = uuid.New()
	_, err = db.ExecContext(t.Context(), fmt.Sprintf(`
		insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, recorded_at, data) values
			(1, gen_random_uuid(), 1, gen_random_uuid(), 'email.reserved', 1, '%[1]s', 'user', now(), '{"account_id":"%[1]s"}'),
			(2, '%[1]s', 1, gen_random_uuid(), 'account.registered', 1, '%[1]s', 'user', now(), '{"account_id":"%[1]s","email":"canary@example.com","name":"Ada"}');
		insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, recorded_at, data)
			select n + 2, '%[2]s', n, gen_random_uuid(), 'execution.log_line', 1, case when n <= %[4]d then '%[1]s' else '%[2]s' end::uuid, 'worker', now(), convert_to('{"text":"canary '||n||'"}', 'UTF8')
			from generate_series(1, %[3]d) n;
		insert into streams select stream_id, count(*) from events group by 1;
		update head set position = %[3]d + 2, recorded_at = now()`, account, uuid.New(), lines, sealBatch))
	require.NoError(t, err)
	return openSmall(t, dsn, 1000), account
}

func (s *Store) seal(ctx context.Context, vault eventstore.Vault) (*eventstore.Codec, error) {
	keys := eventstore.NewKeyRing(vault, eventstore.MasterKey{1})
	return eventstore.DomainCodec(keys), s.SealPlain(ctx, keys, slog.New(slog.DiscardHandler))
}

// plainRows is how many payloads say in plain what the account does.
func (s *Store) plainRows(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.pool.QueryRow(t.Context(), "select count(*) from events where position('canary'::bytea in data) > 0").Scan(&n))
	return n
}

// requireSealed wants every event to be what it was, under the account's key.
func (s *Store) requireSealed(t *testing.T, codec *eventstore.Codec, before []eventstore.Event) {
	t.Helper()
	require.Zero(t, s.plainRows(t))
	for i, e := range readAll(t, s)[:len(before)] {
		disclosure, err := codec.Disclose(t.Context(), e.NewEvent)
		require.NoError(t, err)
		want, _ := eventstore.PlainDisclosure(before[i].Data)
		require.Equal(t, want, disclosure)
		_, plain := eventstore.PlainDisclosure(e.Data)
		require.Equal(t, e.Type == "email.reserved", plain, "what holds nothing but ids stays as it is")
		e.Data = before[i].Data
		require.Equal(t, before[i], e)
	}
	var left bool
	require.NoError(t, s.pool.QueryRow(t.Context(), "select to_regclass('sealed_payloads') is not null").Scan(&left))
	require.False(t, left)
}

func TestWhatAnEarlyVersionHasWrittenInPlainIsSealedForItsAccount(t *testing.T) {
	t.Parallel()
	s, account := earlyLog(t, 3000)
	before := readAll(t, s)
	require.Equal(t, 3001, s.plainRows(t))
	like := s.described(t, "events_1")
	codec, err := s.seal(t.Context(), s)
	require.NoError(t, err)
	s.requireSealed(t, codec, before)
	require.Equal(t, like, s.described(t, "events_1"))
	_, err = s.pool.Exec(t.Context(), "update events set data = null")
	require.ErrorContains(t, err, "append-only")
	_, err = s.Append(t.Context(), write(uuid.New(), 10))
	require.NoError(t, err)

	require.NoError(t, codec.Keys().Erase(t.Context(), account))
	fact, err := codec.Decode(t.Context(), before[1].NewEvent)
	require.NoError(t, err)
	require.IsType(t, domain.AccountRegistered{}, fact, "in plain it could be read for ever")
	fact, err = codec.Decode(t.Context(), readAll(t, s)[1].NewEvent)
	require.NoError(t, err)
	require.Equal(t, domain.Redacted{Type: "account.registered"}, fact)
}

// The log is looked through once in its life.
func TestALogThatIsSealedIsNotLookedThroughAgain(t *testing.T) {
	t.Parallel()
	s, _ := earlyLog(t, 1)
	_, err := s.seal(t.Context(), s)
	require.NoError(t, err)
	tx, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), "lock table events in access exclusive mode")
	require.NoError(t, err)
	_, err = s.seal(t.Context(), s)
	require.NoError(t, err)
}

// What an account says that was erased before its payloads were sealed is gone for everybody as well.
func TestWhatAnErasedAccountHasWrittenInPlainIsSealedUnderAKeyThatNobodyHas(t *testing.T) {
	t.Parallel()
	s, account := earlyLog(t, 10)
	require.NoError(t, s.Erase(t.Context(), account))
	codec, err := s.seal(t.Context(), s)
	require.NoError(t, err)
	require.Zero(t, s.plainRows(t))
	fact, err := codec.Decode(t.Context(), readAll(t, s)[5].NewEvent)
	require.NoError(t, err)
	require.Equal(t, domain.Redacted{Type: "execution.log_line"}, fact)
}

// The server has to start, and whoever verifies the log has to find it.
func TestAPlainPayloadThatWasAlteredIsSealedAsItIs(t *testing.T) {
	t.Parallel()
	s, _ := earlyLog(t, 5)
	for _, statement := range []string{
		"alter table events disable trigger events_are_append_only",
		`update events set data = '\x00'::bytea || repeat('x', 30)::bytea where position = 4`,
		`update events set data = '\x0001' where position = 5`, // no payload at all
		"alter table events enable trigger events_are_append_only",
	} {
		_, err := s.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	codec, err := s.seal(t.Context(), s)
	require.NoError(t, err)
	events := readAll(t, s)
	disclosure, err := codec.Disclose(t.Context(), events[3].NewEvent)
	require.NoError(t, err)
	require.NotEqual(t, events[3].Commitment, eventstore.Commit(disclosure))
	_, err = codec.Disclose(t.Context(), events[4].NewEvent)
	require.ErrorIs(t, err, eventstore.ErrUnknownForm)
}

// dying is a vault whose process ends when it needs a second key.
type dying struct {
	*Store
	die   func()
	asked int
}

func (d *dying) PutNew(ctx context.Context, owner uuid.UUID, name string, secret []byte) ([]byte, error) {
	if d.asked++; d.asked == 2 {
		d.die()
	}
	return d.Store.PutNew(ctx, owner, name, secret)
}

// The first process ends when it has sealed some, the second one when it waits for a lock to put them in their place.
func TestASealingThatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	s, _ := earlyLog(t, sealBatch+500)
	before := readAll(t, s)
	ctx, die := context.WithCancel(t.Context())
	_, err := s.seal(ctx, &dying{Store: s, die: die})
	require.ErrorIs(t, err, context.Canceled)
	var sealed int
	require.NoError(t, s.pool.QueryRow(t.Context(), "select count(*) from sealed_payloads").Scan(&sealed))
	require.Equal(t, sealBatch, sealed)

	reader, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "select from events limit 1")
	require.NoError(t, err)
	ctx, die = context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.seal(ctx, s)
		ended <- err
	}()
	require.Eventually(t, func() bool {
		var built bool
		err := s.pool.QueryRow(t.Context(), "select to_regclass('voltrun_rewritten.events_1') is not null").Scan(&built)
		return err == nil && built
	}, 20*time.Second, time.Millisecond)
	die()
	require.Error(t, <-ended)
	require.NoError(t, reader.Rollback(t.Context()))
	require.NotZero(t, s.plainRows(t))

	codec, err := s.seal(t.Context(), s)
	require.NoError(t, err)
	s.requireSealed(t, codec, before)
}
