package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// The users that functions run as when the server is root; each one's group has the same number. They are nobody's
// else: as an account of the host, such as "nobody", a function could reach what else runs as that account, such as the
// private Postgres. systemd hands out no numbers between 60706 and 61183, and Debian those below 65000 only to packages
// that make an account, which take skips. They stay below 65536, above which a container may have no users.
const (
	firstUser = 60800
	userCount = 384
)

// userRegister is a file in which the byte at a user's number belongs to that user. Who runs something as the user holds
// the byte's lock, so that no two servers on a host do. The byte is 1 from then on until nothing of the user runs any
// more: it stays 1 when a server is killed.
const userRegister = "voltrun-users"

// users gives each run a user of its own. The zero value is that of a server that is not root: functions run as its own
// user, for which nil stands.
type users struct {
	register *os.File
	free     chan uint32
}

func openUsers() (*users, error) {
	if os.Geteuid() != 0 {
		return &users{}, nil
	}
	u, err := newUsers(filepath.Join("/run", userRegister), firstUser, userCount)
	if err != nil { // there is no /run, or it cannot be written to
		return newUsers(filepath.Join(os.TempDir(), userRegister), firstUser, userCount)
	}
	return u, nil
}

func newUsers(register string, first, count int) (*users, error) {
	file, err := os.OpenFile(register, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	u := &users{register: file, free: make(chan uint32, count)}
	for _, i := range rand.Perm(count) { // so that several servers seldom ask for the same
		u.free <- uint32(first + i)
	}
	return u, nil
}

// userNumbers lists the users that functions run as.
func userNumbers() []int {
	numbers := make([]int, userCount)
	for i := range numbers {
		numbers[i] = firstUser + i
	}
	return numbers
}

// close lets other servers have what is not given back yet, which must not run any more.
func (u *users) close() {
	if u.register != nil {
		_ = u.register.Close()
	}
}

// otherServersPause is how long to wait when other servers hold every user that this one does not.
const otherServersPause = 50 * time.Millisecond

// take waits for a user that nothing runs as.
func (u *users) take(ctx context.Context) (*syscall.Credential, error) {
	for tries := 1; u.register != nil; tries++ {
		select {
		case id := <-u.free:
			as := &syscall.Credential{Uid: id, Gid: id}
			if mine, err := u.claim(as); mine || err != nil {
				return as, err
			}
			u.free <- id
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if tries%cap(u.free) == 0 {
			time.Sleep(otherServersPause)
		}
	}
	return nil, nil
}

// claim takes a user's lock, and ends what a server that was killed left running as that user.
func (u *users) claim(as *syscall.Credential) (bool, error) {
	at := int64(as.Uid)
	if _, err := user.LookupId(strconv.FormatInt(at, 10)); err == nil {
		return false, nil // the host has given the number to somebody
	}
	if free, err := lockByte(u.register, at); !free {
		return false, err
	}
	used := make([]byte, 1)
	if _, err := u.register.ReadAt(used, at); err == nil && used[0] == 1 && endUser(as) != nil {
		unlockByte(u.register, at)
		return false, nil
	}
	_, err := u.register.WriteAt([]byte{1}, at)
	return err == nil, err
}

// giveBack makes a user free again. Nothing may run as it any more, and nothing may be left that belongs to it.
func (u *users) giveBack(as *syscall.Credential) {
	if as == nil {
		return
	}
	_, _ = u.register.WriteAt([]byte{0}, int64(as.Uid))
	unlockByte(u.register, int64(as.Uid))
	u.free <- as.Uid
}

// endStrays ends what a run left running, also what left its process group.
func endStrays(as *syscall.Credential, marker string) error {
	if as == nil {
		killMarked(marker)
		return nil
	}
	return endUser(as)
}

// endUser kills every process of a user. The kernel does it at a stroke, so that none can fork its way out, for one that
// is that user itself. They may kill or stop that one before: then they are killed from outside, and it is sent again.
func endUser(as *syscall.Credential) error {
	const attempts = 5
	var err error
	for range attempts {
		if err = killAllAs(as); err == nil {
			return nil
		}
		killOwned(as.Uid)
	}
	return fmt.Errorf("end the processes of user %d: %w", as.Uid, err)
}

func killAllAs(as *syscall.Credential) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "kill -9 -1")
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // there was nobody to kill
	}
	return err
}
