package limits

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/stretchr/testify/require"
)

// openTree opens a tree that has what a test needs.
func openTree(t *testing.T, needs ...string) *Tree {
	t.Helper()
	tree := Open()
	t.Cleanup(func() { require.NoError(t, tree.Close()) })
	for _, limit := range needs {
		if !slices.Contains(tree.Hard(), limit) {
			t.Skipf("this host does not enforce %s: %s", limit, tree.Notes())
		}
	}
	if !tree.Freezes() {
		t.Skip("no groups here:", tree.Notes())
	}
	return tree
}

func newTestGroup(t *testing.T, tree *Tree, b Bounds) *Group {
	t.Helper()
	group, err := tree.New(b)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, group.Close()) })
	return group
}

func TestWhoExceedsTheMemoryIsKilledAndTheGroupSaysWhy(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t, "memory"), Bounds{MemoryMB: 96})
	greedy := startIn(t, group, "eat")
	greedy.say(t, "20")
	require.Equal(t, "ate 20", greedy.hear())
	require.False(t, group.OOMKilled())
	greedy.say(t, "200")
	require.Empty(t, greedy.hear())
	require.Equal(t, syscall.SIGKILL, greedy.signal())
	require.True(t, group.OOMKilled())
	require.GreaterOrEqual(t, group.Usage().PeakBytes, int64(94<<20))
	require.LessOrEqual(t, group.Usage().PeakBytes, int64(97<<20))
}

func TestWhoKillsItselfIsNotOutOfMemory(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t, "memory"), Bounds{MemoryMB: 96})
	self := startIn(t, group, "spin")
	require.Equal(t, "on", self.hear())
	require.NoError(t, self.cmd.Process.Kill())
	require.Equal(t, syscall.SIGKILL, self.signal())
	require.False(t, group.OOMKilled())
}

func TestThePeakBeginsAnewWhenItIsReset(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t, "memory"), Bounds{MemoryMB: 256})
	eater := startIn(t, group, "eat")
	for _, step := range []struct{ eat, least, most int }{{100, 100, 150}, {0, 100, 150}} {
		eater.say(t, strconv.Itoa(step.eat))
		eater.hear()
		peak := int(group.Usage().PeakBytes >> 20)
		require.GreaterOrEqual(t, peak, step.least)
		require.LessOrEqual(t, peak, step.most)
	}
	group.ResetPeak()
	if group.unified && group.Usage().PeakBytes > 90<<20 {
		t.Skip("cgroup v2 can reset the peak since Linux 6.12")
	}
	require.Less(t, group.Usage().PeakBytes, int64(50<<20))
	eater.say(t, "60")
	eater.hear()
	peak := int(group.Usage().PeakBytes >> 20)
	require.GreaterOrEqual(t, peak, 60)
	require.LessOrEqual(t, peak, 110)
	require.LessOrEqual(t, group.Usage().MemoryBytes, group.Usage().PeakBytes)
}

func TestAGroupHasNoMoreProcessesThanItsLimit(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t, "processes"), Bounds{Processes: 40})
	startIn(t, group, "bomb")
	refused := func() bool {
		events, _ := cgroups.ReadFile(group.manager.Path(pids), "pids.events")
		return !strings.Contains(events+" ", "max 0") && strings.Contains(events, "max ")
	}
	require.Eventually(t, refused, 5*time.Second, 2*time.Millisecond)
	count, err := group.Processes()
	require.NoError(t, err)
	require.Greater(t, count, 1)
	require.LessOrEqual(t, count, 40)
}

func TestAForkBombEndsWithItsGroupAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	tree := openTree(t, "processes")
	group, err := tree.New(Bounds{Processes: 100})
	require.NoError(t, err)
	bomb := startIn(t, group, "bomb")
	require.Eventually(t, func() bool { n, _ := group.Processes(); return n > 8 }, 5*time.Second, time.Millisecond)
	began := time.Now()
	group.Kill()
	require.Equal(t, syscall.SIGKILL, bomb.signal())
	require.NoError(t, group.Close())
	t.Logf("killed and removed in %s", time.Since(began))
	for _, folder := range group.folders {
		require.NoDirExists(t, folder)
	}
	group.Kill() // harmless
	require.NoError(t, group.Close())
	require.Zero(t, group.Usage())
}

func TestAGroupGetsNoMoreProcessorTimeThanItsQuota(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t, "cpu"), Bounds{CPUs: 0.2})
	spinner := startIn(t, group, "spin")
	require.Equal(t, "on", spinner.hear())
	began, before := time.Now(), group.Usage().CPU
	used := func() time.Duration { return group.Usage().CPU - before }
	require.Eventually(t, func() bool { return used() > 60*time.Millisecond }, 20*time.Second, time.Millisecond)
	require.Greater(t, time.Since(began), 150*time.Millisecond, "60 ms of a fifth of a processor, of which one period may be given at once")
}

func TestWhatIsFrozenStandsStillAndGoesOn(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t), Bounds{})
	spinner := startIn(t, group, "spin")
	require.Equal(t, "on", spinner.hear())
	require.NoError(t, group.Freeze(true))
	frozen := group.Usage().CPU
	require.Positive(t, frozen)
	require.Never(t, func() bool { return group.Usage().CPU > frozen+time.Millisecond }, 50*time.Millisecond, 5*time.Millisecond)
	require.NoError(t, group.Freeze(false))
	require.Eventually(t, func() bool { return group.Usage().CPU > frozen+5*time.Millisecond }, 5*time.Second, time.Millisecond)
}

func TestWhatIsFrozenCanBeKilled(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t), Bounds{})
	spinner := startIn(t, group, "spin")
	require.Equal(t, "on", spinner.hear())
	require.NoError(t, group.Freeze(true))
	group.Kill()
	require.Equal(t, syscall.SIGKILL, spinner.signal())
}

func TestTheGroupsOfALivingServerAreLeftAlone(t *testing.T) {
	t.Parallel()
	group := newTestGroup(t, openTree(t), Bounds{})
	spinner := startIn(t, group, "spin")
	require.Equal(t, "on", spinner.hear())
	openTree(t)
	count, err := group.Processes()
	require.NoError(t, err)
	require.Equal(t, 1, count)
}

func TestTheNextServerRemovesWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	openTree(t)
	server := talk(t, helper("server"), (*exec.Cmd).Start)
	left := strings.Fields(server.hear())
	require.Greater(t, len(left), 1, "a process and its folders")
	require.NoError(t, server.cmd.Process.Kill())
	_ = server.cmd.Wait()
	for _, folder := range left[1:] {
		require.DirExists(t, folder)
	}
	openTree(t)
	for _, folder := range left[1:] {
		require.NoDirExists(t, filepath.Dir(folder))
	}
	require.Eventually(t, func() bool { return isGone(left[0]) }, time.Second, time.Millisecond)
}

func isGone(pid string) bool {
	status, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(status), ") Z ")
}

func TestWhereNoGroupCanBeMadeItSaysSoAndGoesOn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can try it as somebody else")
	}
	folder, err := os.MkdirTemp("", "voltrun-limits-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "test"), self, 0o755))
	cmd := exec.Command(filepath.Join(folder, "test"))
	cmd.Dir, cmd.Env = "/", []string{helperMode + "=open"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60_790, Gid: 60_790}}
	out, err := cmd.Output()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(out), " No control group can be made here ("), "nothing is enforced, and why: %q", out)
	require.Contains(t, string(out), "permission denied")
	require.Contains(t, string(out), "Delegate=yes")
}

func TestAGroupThatBoundsNothingDoesNothing(t *testing.T) {
	t.Parallel()
	tree := &Tree{}
	group, err := tree.New(Bounds{MemoryMB: 1, Processes: 1, CPUs: 1})
	require.NoError(t, err)
	require.False(t, group.Bounded())
	cmd := exec.Command("true")
	require.NoError(t, group.Start(cmd, (*exec.Cmd).Start))
	require.NoError(t, cmd.Wait())
	require.NoError(t, group.Freeze(true))
	group.ResetPeak()
	group.Kill()
	require.Zero(t, group.Usage())
	require.False(t, group.OOMKilled())
	require.NoError(t, group.Close())
	require.NoError(t, tree.Close())
}

// This looks at what cgroup v2 does without its controllers, on a host that gives those to v1.
func TestAGroupOfTheUnifiedTreeStartsFreezesCountsAndKills(t *testing.T) {
	t.Parallel()
	if !cgroups.IsCgroup2HybridMode() || os.Geteuid() != 0 {
		t.Skip("not a host with both versions of control groups, or not root: the other tests look at the one there is")
	}
	tree, err := openV2("/sys/fs/cgroup/unified")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tree.Close()) })
	require.NotEmpty(t, tree.Notes(), "what is missing is told")
	group := newTestGroup(t, tree, Bounds{MemoryMB: 64, Processes: 64, CPUs: 1})
	spinner := startIn(t, group, "spin")
	require.Equal(t, "on", spinner.hear())
	count, err := group.Processes()
	require.NoError(t, err)
	require.Equal(t, 1, count)
	require.Eventually(t, func() bool { return group.Usage().CPU > 5*time.Millisecond }, 5*time.Second, time.Millisecond)
	require.NoError(t, group.Freeze(true))
	group.Kill()
	require.Equal(t, syscall.SIGKILL, spinner.signal())
}

func BenchmarkNewAndClose(b *testing.B) {
	tree := Open()
	defer tree.Close()
	for b.Loop() {
		group, err := tree.New(Bounds{MemoryMB: 64, Processes: 64, CPUs: 1})
		require.NoError(b, err)
		require.NoError(b, group.Close())
	}
}

func BenchmarkUsageAndResetPeak(b *testing.B) {
	tree := Open()
	defer tree.Close()
	group, err := tree.New(Bounds{MemoryMB: 64, Processes: 64, CPUs: 1})
	require.NoError(b, err)
	defer group.Close()
	for b.Loop() {
		group.ResetPeak()
		group.Usage()
	}
}

func BenchmarkProcesses(b *testing.B) {
	tree := Open()
	defer tree.Close()
	group, err := tree.New(Bounds{})
	require.NoError(b, err)
	defer group.Close()
	for b.Loop() {
		_, err = group.Processes()
		require.NoError(b, err)
	}
}

func BenchmarkStart(b *testing.B) {
	tree := Open()
	defer tree.Close()
	group, err := tree.New(Bounds{})
	require.NoError(b, err)
	defer group.Close()
	for name, start := range map[string]func(cmd *exec.Cmd) error{
		"bare":  (*exec.Cmd).Start,
		"group": func(cmd *exec.Cmd) error { return group.Start(cmd, (*exec.Cmd).Start) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command("/bin/true")
				require.NoError(b, start(cmd))
				require.NoError(b, cmd.Wait())
			}
		})
	}
}

func BenchmarkFreezeAndThaw(b *testing.B) {
	tree := Open()
	defer tree.Close()
	group, err := tree.New(Bounds{})
	require.NoError(b, err)
	defer group.Close()
	sleeper := exec.Command("sleep", "7798")
	require.NoError(b, sleeper.Start())
	defer func() { _ = sleeper.Wait() }()
	require.NoError(b, group.Add(sleeper.Process.Pid))
	for b.Loop() {
		require.NoError(b, group.Freeze(true))
		require.NoError(b, group.Freeze(false))
	}
	group.Kill()
}
