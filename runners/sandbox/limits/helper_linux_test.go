package limits

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// helperMode turns the test binary into a process for a test to put into a group, so that nothing else has to be installed.
const helperMode = "VOLTRUN_LIMITS_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperMode) {
	case "eat":
		eat()
	case "spin":
		fmt.Println("on")
		for n := 0; ; n++ {
		}
	case "bomb":
		for {
			_ = helper("bomb").Start()
		}
	case "server":
		serve()
	case "open":
		tree := Open()
		fmt.Println(strings.Join(tree.Hard(), ","), strings.Join(tree.Notes(), " "))
	default:
		os.Exit(m.Run())
	}
}

// eat takes as many megabytes as the lines of its input say, and answers each line when it has. They are not the garbage
// collector's, nor the race detector's, which takes as much again.
func eat() {
	lines := bufio.NewScanner(os.Stdin)
	var memory []byte
	for lines.Scan() {
		_ = unix.Munmap(memory)
		megabytes, _ := strconv.Atoi(lines.Text())
		memory, _ = unix.Mmap(-1, 0, megabytes<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
		fmt.Println("ate", len(memory)>>20)
	}
}

// serve is a server that leaves a frozen process in a group and then waits to be killed.
func serve() {
	tree := Open()
	group, err := tree.New(Bounds{MemoryMB: 64, Processes: 64})
	if err != nil {
		panic(err)
	}
	child := exec.Command("sleep", "7799")
	if err := child.Start(); err != nil {
		panic(err)
	}
	if err := group.Add(child.Process.Pid); err != nil {
		panic(err)
	}
	if err := group.Freeze(true); err != nil {
		panic(err)
	}
	fmt.Println(child.Process.Pid, strings.Join(group.folders, " "))
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {}
}

func helper(mode string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{helperMode + "=" + mode, "GOMAXPROCS=1", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// conversation is a helper's input and output.
type conversation struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startIn starts a helper inside a group, as drivers do.
func startIn(t *testing.T, g *Group, mode string) *conversation {
	t.Helper()
	return talk(t, helper(mode), func(cmd *exec.Cmd) error { return g.Start(cmd, (*exec.Cmd).Start) })
}

func talk(t *testing.T, cmd *exec.Cmd, start func(*exec.Cmd) error) *conversation {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, start(cmd))
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &conversation{cmd: cmd, in: in, out: bufio.NewReader(out)}
}

func (c *conversation) say(t *testing.T, line string) {
	t.Helper()
	_, err := fmt.Fprintln(c.in, line)
	require.NoError(t, err)
}

// hear returns the next line, which is empty when the helper has ended.
func (c *conversation) hear() string {
	line, _ := c.out.ReadString('\n')
	return strings.TrimSpace(line)
}

func (c *conversation) signal() syscall.Signal {
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}
