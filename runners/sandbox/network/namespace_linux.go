package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// Namespace is a network of its own, which exists until it is closed and nothing lives in it any more.
type Namespace struct {
	nsenter   string
	private   bool // entering it takes entering its user namespace
	net, user *os.File
	stop      *os.File // slirp4netns ends when nobody holds this: also when the server is killed
	said      firstWords
	cmd       *exec.Cmd
	done      chan struct{}
	close     sync.Once
}

func (n *Namespace) open(owner int) (err error) {
	folder := "/proc/" + strconv.Itoa(owner) + "/ns/"
	if n.net, err = os.Open(folder + "net"); err == nil {
		n.user, err = os.Open(folder + "user")
	}
	return err
}

// connect starts slirp4netns and waits until it has set up the namespace's interface. Its descriptors are: 3 and 4 the
// namespaces, 5 to say that it is ready, 6 to end with.
func (n *Namespace) connect(ctx context.Context, e *Egress, start func(*exec.Cmd) error) error {
	ready, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	watched, stop, err := os.Pipe()
	if err != nil {
		return errors.Join(err, said.Close())
	}
	n.stop = stop
	cmd := exec.Command(e.nsenter, e.slirpArguments()...)
	cmd.Env, cmd.Dir, cmd.Stderr = []string{}, "/", &n.said
	cmd.ExtraFiles = []*os.File{n.net, n.user, said, watched}
	err = start(cmd)
	_, _ = said.Close(), watched.Close()
	if err != nil {
		return fmt.Errorf("start slirp4netns: %w", err)
	}
	n.cmd = cmd
	go n.wait()
	return n.awaitReady(ctx, ready)
}

// slirpArguments run slirp4netns as root of the namespace and as nobody on the host; it shuts itself in. Ports that
// functions listen on are not forwarded, and IPv6 is off, which is what it does unless told otherwise.
func (e *Egress) slirpArguments() []string {
	become := []string{"--preserve-credentials"}
	if e.as != nil {
		become = []string{"--setuid", "0", "--setgid", "0"}
	}
	return append(append([]string{"--user=/proc/self/fd/4"}, become...), "--", e.slirp,
		"--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
		"--ready-fd=5", "--exit-fd=6", "--netns-type=path", "/proc/self/fd/3", "tap0")
}

func (n *Namespace) wait() {
	_ = n.cmd.Wait()
	close(n.done)
}

func (n *Namespace) awaitReady(ctx context.Context, ready *os.File) error {
	_ = ready.SetReadDeadline(time.Now().Add(readyWithin))
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	_, err := ready.Read(make([]byte, 1))
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("slirp4netns was not ready within %s", readyWithin)
	}
	<-n.done // it has closed its end
	return fmt.Errorf("slirp4netns did not start: %s", n.said.or(err))
}

// Enter is what a command begins with to run in the namespace. A server that is not root gets into the namespace's user
// namespace with it, where it is root: what it starts must make a user namespace of its own, or it could change the routes.
func (n *Namespace) Enter() []string {
	descriptors := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/"
	enter := []string{n.nsenter, "--net=" + descriptors + strconv.Itoa(int(n.net.Fd()))}
	if n.private {
		enter = append(enter, "--user="+descriptors+strconv.Itoa(int(n.user.Fd())), "--preserve-credentials")
	}
	return append(enter, "--")
}

// Files are descriptors of the network namespace and of the user namespace that owns it, for setns. They are good until Close.
func (n *Namespace) Files() (network, user *os.File) { return n.net, n.user }

// Pid is slirp4netns's.
func (n *Namespace) Pid() int { return n.cmd.Process.Pid }

// Done is closed when the namespace reaches nothing any more, because slirp4netns has ended.
func (n *Namespace) Done() <-chan struct{} { return n.done }

// Close cuts the namespace off. Whoever is in it keeps only its loopback.
func (n *Namespace) Close() error {
	n.close.Do(func() {
		if n.stop != nil {
			_ = n.stop.Close()
		}
		if n.cmd != nil {
			_ = n.cmd.Process.Kill()
			<-n.done
		}
		_, _ = n.net.Close(), n.user.Close()
	})
	return nil
}
