package privatepg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user that Postgres runs as. Postgres refuses to be root.
type account struct {
	name     string
	uid, gid int // own the cluster's files

	switches bool // whether the process must change to uid and gid
	// inside is who the process believes to be in a user namespace of its own, in which it maps to uid; 0 is no namespace.
	inside int
}

// unprivileged are the users, in order of preference, that root lets Postgres run as.
var unprivileged = []string{"voltrun", "postgres", "nobody"}

// self is the account of this process.
func self() account {
	a := account{name: "uid " + strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid()}
	if u, err := user.LookupId(strconv.Itoa(a.uid)); err == nil {
		a.name = u.Username
	}
	return a
}

// lookup returns the account of another user.
func lookup(name string) (account, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, false
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return account{name: name, uid: uid, gid: gid, switches: true}, uidErr == nil && gidErr == nil && uid != 0
}

// named returns those unprivileged accounts that exist.
func named() []account {
	var accounts []account
	for _, name := range unprivileged {
		if a, ok := lookup(name); ok {
			accounts = append(accounts, a)
		}
	}
	return accounts
}

// disguised is this process's own account in a user namespace where it bears the name of an unprivileged user. The
// files stay ours, so no folder needs to be open to others.
func disguised() (account, bool) {
	users := named()
	if len(users) == 0 {
		return account{}, false
	}
	last := users[len(users)-1]
	a := self()
	a.name, a.inside = a.name+" disguised as "+last.name, last.uid
	return a, true
}

// chooseAccount returns who Postgres runs as: whoever we are, but as root the first unprivileged account that can
// execute the binaries and reach the data folder. Tried first is the owner of the cluster, which is nil when there is none yet.
func chooseAccount(ctx context.Context, b binaries, dataDir string, owner *account) (account, error) {
	if os.Geteuid() != 0 {
		return self(), nil
	}
	candidates := named()
	if owner != nil && owner.uid != 0 {
		candidates = append([]account{*owner}, candidates...)
	}
	if a, ok := disguised(); ok {
		candidates = append(candidates, a)
	}
	var failures []error
	for _, a := range candidates {
		err := a.probe(ctx, b, dataDir)
		if err == nil {
			return a, nil
		}
		failures = append(failures, fmt.Errorf("as %s: %w", a.name, err))
	}
	return account{}, fmt.Errorf("Postgres does not run as root, and no other user can run %s and reach the data folder %s. "+
		"Set VOLTRUN_DATA to a folder that others may pass through, such as /var/lib/voltrun, or run VoltRun as an ordinary user, "+
		"or set DATABASE_URL (tried: %w)", b.program("postgres"), dataDir, errors.Join(failures...))
}

// probe tells whether the account can execute the binaries from within the data folder.
func (a account) probe(ctx context.Context, b binaries, dataDir string) error {
	cmd := exec.CommandContext(ctx, b.program("postgres"), "--version")
	cmd.Dir = dataDir
	a.prepare(cmd)
	return cmd.Run()
}

// prepare makes cmd run as the account, in a session of its own so that a terminal's ^C does not reach it, and with
// nothing of our environment that Postgres does not need.
func (a account) prepare(cmd *exec.Cmd) {
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.switches {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: []uint32{}}
	}
	if a.inside != 0 {
		disguise(cmd.SysProcAttr, a)
	}
}

// initialiser is the account that runs initdb, which insists on a user with a name.
func (a account) initialiser() (account, error) {
	if a.switches || a.inside != 0 {
		return a, nil
	}
	if _, err := user.LookupId(strconv.Itoa(a.uid)); err == nil {
		return a, nil
	}
	d, ok := disguised()
	if !ok {
		return a, fmt.Errorf("user id %d has no name in /etc/passwd, which initdb needs; give it one, or set DATABASE_URL", a.uid)
	}
	return d, nil
}

// ownerOf returns the account that owns a file.
func ownerOf(path string) (account, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return account{}, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	a := account{name: "uid " + strconv.Itoa(int(stat.Uid)), uid: int(stat.Uid), gid: int(stat.Gid), switches: true}
	if u, err := user.LookupId(strconv.Itoa(a.uid)); err == nil {
		a.name = u.Username
	}
	return a, nil
}
