package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Egress makes namespaces.
type Egress struct {
	as                 *syscall.Credential // nil is the server's own user
	refused            []netip.Prefix
	slirp, ip, nsenter string
}

// Open finds out, by making a namespace, whether egress can be given on this host; an error says what is missing. What is
// refused comes on top of what always is. A server that is root names a user for slirp4netns who must be nobody else,
// above all no function's: who owns a namespace may change its routes.
func Open(ctx context.Context, as *syscall.Credential, refused []netip.Prefix) (*Egress, error) {
	if (os.Geteuid() == 0) != (as != nil) {
		return nil, errors.New("slirp4netns needs a user of its own exactly when the server is root")
	}
	e := &Egress{as: as, refused: slices.Concat(alwaysRefused, refused)}
	for name, path := range map[string]*string{"slirp4netns": &e.slirp, "ip": &e.ip, "nsenter": &e.nsenter} {
		found, err := lookPath(name)
		if err != nil {
			return nil, fmt.Errorf("%s is not installed (package %s)", name, packageOf[name])
		}
		*path = found
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil, errors.New("there is no /dev/net/tun (a container needs --device /dev/net/tun)")
	}
	namespace, err := e.Start(ctx, (*exec.Cmd).Start)
	if err != nil {
		return nil, err
	}
	return e, namespace.Close()
}

var packageOf = map[string]string{"slirp4netns": "slirp4netns", "ip": "iproute2", "nsenter": "util-linux"}

// lookPath looks where ordinary users often do not, too.
func lookPath(name string) (string, error) {
	for _, folder := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(folder + name); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// Start makes a namespace. slirp4netns is started by start, so that it can be in the control group of who will use the
// namespace; the function that start is given has pid and descriptors like any other.
func (e *Egress) Start(ctx context.Context, start func(*exec.Cmd) error) (*Namespace, error) {
	host, err := hostNetworks()
	if err != nil {
		return nil, fmt.Errorf("find the host's own addresses: %w", err)
	}
	o, err := e.startOwner()
	if err != nil {
		return nil, err
	}
	defer o.end()
	n := &Namespace{nsenter: e.nsenter, private: e.as == nil, done: make(chan struct{})}
	if err = n.open(o.cmd.Process.Pid); err == nil {
		err = n.connect(ctx, e, start)
	}
	if err == nil {
		err = o.route(routing(slices.Concat(e.refused, host), hasIPv6()))
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// owner is a process in new user and network namespaces that waits for slirp4netns, sets the routes and ends.
type owner struct {
	cmd   *exec.Cmd
	stdin *os.File
	said  *firstWords
}

// setRoutes waits for a line and becomes ip. Where a host filters by reverse path, answers from the nameserver would not
// pass the rules. slirp4netns speaks no IPv6.
const setRoutes = `read -r _ || exit 1
for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >"$f"; done 2>/dev/null
(echo 1 >/proc/sys/net/ipv6/conf/tap0/disable_ipv6) 2>/dev/null
exec "$0" -batch -`

// startOwner makes the namespaces. Root in them is the server's user, or the one that a server which is root has for it.
func (e *Egress) startOwner() (*owner, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	o := &owner{cmd: exec.Command("/bin/sh", "-c", setRoutes, e.ip), stdin: ours, said: &firstWords{}}
	uid, gid := os.Geteuid(), os.Getegid()
	if e.as != nil {
		uid, gid = int(e.as.Uid), int(e.as.Gid)
	}
	o.cmd.Env, o.cmd.Dir, o.cmd.Stdin, o.cmd.Stderr = []string{}, "/", theirs, o.said
	o.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
		GidMappingsEnableSetgroups: e.as != nil,
		Setsid:                     true,
	}
	if e.as != nil {
		o.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	if err := o.cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("make user and network namespaces: %w (kernel.unprivileged_userns_clone, user.max_user_namespaces and AppArmor may forbid it)", err)
	}
	return o, nil
}

// route sets the routes; it returns when they hold.
func (o *owner) route(batch string) error {
	_, err := o.stdin.WriteString("\n" + batch)
	_ = o.stdin.Close()
	if err == nil {
		err = o.cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("prohibit what functions may not reach: %s", o.said.or(err))
	}
	return nil
}

// end ends an owner that has set no routes.
func (o *owner) end() {
	_ = o.stdin.Close()
	if o.cmd.ProcessState == nil {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
	}
}

// firstWords keeps the beginning of what a process says.
type firstWords struct{ text []byte }

func (w *firstWords) Write(p []byte) (int, error) {
	const enough = 1 << 10
	w.text = append(w.text, p[:min(len(p), enough-min(len(w.text), enough))]...)
	return len(p), nil
}

func (w *firstWords) or(err error) string {
	if text := strings.TrimSpace(string(w.text)); text != "" {
		return strings.ReplaceAll(text, "\n", "; ")
	}
	return err.Error()
}

// readyWithin is how long slirp4netns may take; it takes milliseconds.
const readyWithin = 10 * time.Second
