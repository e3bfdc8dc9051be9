package archive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// The test binary is an archiver itself when this says of which database and folder, and at which step it is killed.
const asArchiver = "VOLTRUN_TEST_AS_ARCHIVER"

func TestMain(m *testing.M) {
	if job := os.Getenv(asArchiver); job != "" {
		runAsArchiver(strings.Split(job, "|"))
		return
	}
	os.Exit(m.Run())
}

func runAsArchiver(job []string) {
	ctx := context.Background()
	store, err := openStore(ctx, job[0], partition)
	if err == nil {
		a := fixture{store: store, codec: storetest.Codec(store), dir: job[1]}.archiver(31, month)
		a.step = func(name string) {
			if name == job[2] {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
		err = a.Run(ctx, ignore)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// launch starts an archiver in a process of its own.
func (f fixture) launch(t *testing.T, killAt string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asArchiver+"="+strings.Join([]string{f.dsn, f.dir, killAt}, "|"))
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	return cmd
}

func killed(cmd *exec.Cmd) bool {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL
}

// requireDone lets an archiver run to its end and wants everything that was due in the archive, and nothing else there.
func (f fixture) requireDone(t *testing.T, before []eventstore.Event) {
	t.Helper()
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	due := 0
	for _, e := range before[:2*partition] {
		if e.Type == lines {
			due++
		}
	}
	require.Equal(t, due, f.requireWhole(t, before))
	require.Len(t, f.files(t), 2, "no draft and no file twice")
	facts := 0
	for _, e := range f.events(t) {
		if e.Type == (domain.LogArchived{}).EventType() {
			facts++
		}
	}
	require.Equal(t, 2, facts)
	var left int
	require.NoError(t, f.store.Pool().QueryRow(t.Context(), "select count(*) from pg_namespace where nspname = 'voltrun_rewritten'").Scan(&left))
	require.Zero(t, left)
}

func TestAnArchiverThatIsKilledAtAnyStepLosesNothingAndTheNextOneGoesOn(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"begun", "written", "recorded", "told", "swapped", "stripped"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, partition)
			f.fill(t, 2500, f.register(t, 0))
			before := f.events(t)
			for range 2 { // at the same step of the next file, or of the same one again
				cmd := f.launch(t, step)
				_ = cmd.Wait()
				require.True(t, killed(cmd), "the archiver has not come to %q", step)
				f.requireWhole(t, before)
			}
			f.requireDone(t, before)
		})
	}
}

// runBehindTheDead is a run as soon as Postgres has seen that the last archiver is gone.
func (f fixture) runBehindTheDead(t *testing.T) (err error) {
	t.Helper()
	require.Eventually(t, func() bool {
		err = f.archiver(31, month).Run(t.Context(), ignore)
		return !errors.Is(err, ErrBusy)
	}, 20*time.Second, 10*time.Millisecond)
	return err
}

// The first host's folder is out of reach.
func TestAnArchiverOnAnotherHostMakesTheFileAgainThatTheLogHasRecorded(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"recorded", "told"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, partition)
			f.fill(t, 2500, f.register(t, 0), f.register(t, 0), f.register(t, 3000))
			before := f.events(t)
			cmd := f.launch(t, step)
			_ = cmd.Wait()
			require.True(t, killed(cmd))
			other := f
			other.dir = filepath.Join(t.TempDir(), "other")
			require.NoError(t, other.runBehindTheDead(t))
			require.Positive(t, other.requireWhole(t, before))
			first := f.files(t)[0]
			one, err := os.ReadFile(filepath.Join(f.dir, first))
			require.NoError(t, err)
			again, err := os.ReadFile(filepath.Join(other.dir, first))
			require.NoError(t, err)
			require.Equal(t, one, again)
		})
	}
}

// Such as one that an archiver has made that compresses in another way.
func TestARecordedFileThatCannotBeMadeAgainIsAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	f.fill(t, 1500, f.register(t, 0))
	before := f.events(t)
	cmd := f.launch(t, "recorded")
	_ = cmd.Wait()
	_, err := f.store.Pool().Exec(t.Context(), "update archives set fact = jsonb_set(fact::jsonb, '{sha256}', to_jsonb(repeat('ab', 32)))")
	require.NoError(t, err)
	other := f
	other.dir = filepath.Join(t.TempDir(), "other")
	for range 2 {
		err = other.runBehindTheDead(t)
		require.ErrorContains(t, err, "copy it to "+other.dir)
		require.ErrorContains(t, err, f.files(t)[0])
	}
	require.Empty(t, other.files(t))
	require.Equal(t, before, f.events(t), "nothing was told and nothing has left")
}

func TestAnArchiverThatIsKilledAtAnyMomentLosesNothingAndTheNextOneGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	f.fill(t, 2500, f.register(t, 0))
	before := f.events(t)
	for kills := 0; ; kills++ {
		cmd := f.launch(t, "")
		time.Sleep(time.Duration(rand.IntN(300+30*kills)) * time.Millisecond) // on a slow machine it has to come to an end as well
		_ = cmd.Process.Kill()                                                // it may have ended by itself
		_ = cmd.Wait()
		f.requireWhole(t, before)
		if !killed(cmd) {
			require.True(t, cmd.ProcessState.Success())
			t.Logf("done after %d kills", kills)
			break
		}
	}
	f.requireDone(t, before)
}
