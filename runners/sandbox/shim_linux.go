package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shimArgument is the only argument of this binary when it is to lock itself in and become another program. That happens
// before anything else of the binary runs, so that tests can use the drivers that need it like any other binary.
const shimArgument = "voltrun-become-a-sandboxed-program"

// shimPlan is what the shim does, in this order. It reads it from descriptor 6.
type shimPlan struct {
	Root      *rootPlan     // its own file system; nil is the host's
	Landlock  *landlockPlan // what it may open of the host's
	Switch    bool          // from root to:
	UID, GID  int
	Filter    []byte // of system calls
	Dir       string
	Argv, Env []string
}

func init() {
	if len(os.Args) != 2 || os.Args[1] != shimArgument {
		return
	}
	runtime.LockOSThread() // credentials and filters belong to a thread, and the thread that executes the program has to have them
	fmt.Fprintln(os.Stderr, becomeSandboxed())
	os.Exit(1)
}

// becomeSandboxed returns only when something has failed.
func becomeSandboxed() error {
	var plan shimPlan
	from := os.NewFile(6, "plan")
	if err := json.NewDecoder(from).Decode(&plan); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	_ = from.Close()
	_ = unix.Close(7) // this binary
	if plan.Root != nil {
		if err := plan.Root.enter(); err != nil {
			return err
		}
	}
	if plan.Landlock != nil {
		if err := plan.Landlock.enforce(); err != nil {
			return err
		}
	}
	if err := plan.dropPrivileges(); err != nil {
		return err
	}
	if err := unix.Chdir(plan.Dir); err != nil {
		return fmt.Errorf("enter %s: %w", plan.Dir, err)
	}
	if err := installFilter(plan.Filter); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", plan.Argv[0], unix.Exec(plan.Argv[0], plan.Argv, plan.Env))
}

// dropPrivileges gives up every capability for good. A change of user makes the kernel forget that the process is to end
// with its parent.
func (p *shimPlan) dropPrivileges() error {
	for capability := uintptr(0); unix.Prctl(unix.PR_CAPBSET_READ, capability, 0, 0, 0) == nil; capability++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil && p.Switch {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	if p.Switch {
		if err := switchThread(p.UID, p.GID); err != nil {
			return err
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &make([]unix.CapUserData, 2)[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the server: %w", err)
	}
	return nil
}

// switchThread changes the user of this thread only: the others end when it executes the program.
func switchThread(uid, gid int) error {
	for _, change := range []struct {
		call uintptr
		args [3]uintptr
	}{
		{unix.SYS_SETGROUPS, [3]uintptr{}},
		{unix.SYS_SETRESGID, [3]uintptr{uintptr(gid), uintptr(gid), uintptr(gid)}},
		{unix.SYS_SETRESUID, [3]uintptr{uintptr(uid), uintptr(uid), uintptr(uid)}},
	} {
		if _, _, errno := syscall.RawSyscall(change.call, change.args[0], change.args[1], change.args[2]); errno != 0 {
			return fmt.Errorf("become user %d: %w", uid, errno)
		}
	}
	return nil
}

func installFilter(filter []byte) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse new privileges: %w", err)
	}
	program := unix.SockFprog{
		Len:    uint16(len(filter) / unix.SizeofSockFilter),
		Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0])),
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

// shimCommand starts this binary as a shim. Its file may have been replaced or deleted since the server started, and a
// process in another user namespace may not look at the server's: so it is handed over open, on descriptor 7.
func shimCommand(plan *shimPlan) (*command, error) {
	encoded, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	file, err := memoryFile("voltrun-plan", encoded)
	if err != nil {
		return nil, err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &command{argv: []string{"/proc/self/fd/7", shimArgument}, dir: "/", extra: []*os.File{file, self}}, nil
}
