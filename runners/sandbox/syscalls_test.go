//go:build linux && amd64

package sandbox

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// systemCalls are what a program in a sandbox tries, with the answer that it should get. None of them would do anything
// if it were allowed, but for the last, which would end in a child that this program does not know of.
var systemCalls = []struct {
	name    string
	number  uintptr
	first   uintptr
	refused syscall.Errno
}{
	{"getpid", unix.SYS_GETPID, 0, 0},
	{"socket of the internet", unix.SYS_SOCKET, unix.AF_INET, 0},
	{"socket of virtual machines", unix.SYS_SOCKET, unix.AF_VSOCK, unix.EPERM},
	{"socket of the kernel's cryptography", unix.SYS_SOCKET, unix.AF_ALG, unix.EPERM},
	{"socket of raw packets", unix.SYS_SOCKET, unix.AF_PACKET, unix.EPERM},
	{"ptrace", unix.SYS_PTRACE, unix.PTRACE_PEEKTEXT, unix.EPERM},
	{"process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, unix.EPERM},
	{"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, 1, unix.EPERM},
	{"pidfd_getfd", unix.SYS_PIDFD_GETFD, 0, unix.EPERM},
	{"keyctl", unix.SYS_KEYCTL, 0, unix.EPERM},
	{"add_key", unix.SYS_ADD_KEY, 0, unix.EPERM},
	{"bpf", unix.SYS_BPF, 0, unix.EPERM},
	{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, unix.EPERM},
	{"mount", unix.SYS_MOUNT, 0, unix.EPERM},
	{"umount2", unix.SYS_UMOUNT2, 0, unix.EPERM},
	{"pivot_root", unix.SYS_PIVOT_ROOT, 0, unix.EPERM},
	{"open_tree", unix.SYS_OPEN_TREE, 0, unix.EPERM},
	{"unshare of the user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, unix.EPERM},
	{"setns", unix.SYS_SETNS, 0, unix.EPERM},
	{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, unix.EPERM},
	{"init_module", unix.SYS_INIT_MODULE, 0, unix.EPERM},
	{"kexec_load", unix.SYS_KEXEC_LOAD, 0, unix.EPERM},
	{"iopl", unix.SYS_IOPL, 3, unix.EPERM},
	{"clone3", unix.SYS_CLONE3, 0, unix.ENOSYS},
	{"io_uring_setup", unix.SYS_IO_URING_SETUP, 1, unix.ENOSYS},
	{"userfaultfd", unix.SYS_USERFAULTFD, 0, unix.ENOSYS},
	{"memfd_secret", unix.SYS_MEMFD_SECRET, 0, unix.ENOSYS},
	{"timer_create", unix.SYS_TIMER_CREATE, 0, unix.ENOSYS},
	{"clone of a sibling", unix.SYS_CLONE, unix.CLONE_PARENT | uintptr(unix.SIGCHLD), unix.EPERM},
	{"clone of a user namespace", unix.SYS_CLONE, unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD), unix.EPERM},
}

// syscallsVariable makes this test binary that program, for the table above or for other tables of numbers.
const (
	syscallsVariable = "VOLTRUN_TEST_SYSCALLS"
	named, foreign   = "named", "foreign"

	x32 = 0x40000000 // the bit that marks the table of 32-bit pointers in 64-bit programs
)

func init() {
	if which := os.Getenv(syscallsVariable); which != "" {
		trySystemCalls(which)
	}
}

func trySystemCalls(which string) {
	if which == foreign {
		fmt.Println(errnoOf(unix.SYS_GETPID|x32, 0) == unix.ENOSYS, -int32(getpid32()) == int32(unix.EPERM))
		os.Exit(0)
	}
	for _, call := range systemCalls {
		fmt.Printf("%s: %d\n", call.name, errnoOf(call.number, call.first))
	}
	os.Exit(0)
}

func errnoOf(number, first uintptr) syscall.Errno {
	second := uintptr(0)
	if number == unix.SYS_SOCKET {
		second = unix.SOCK_DGRAM
	}
	_, _, errno := syscall.RawSyscall6(number, first, second, 0, 0, 0, 0)
	return errno
}

// getpid32 makes a system call through the gate of 32-bit programs, which has another table of numbers.
func getpid32() uint32 {
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0
	}
	copy(code, []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3}) // mov $20, %eax; int $0x80; ret
	entry := unsafe.Pointer(&code[0])
	function := unsafe.Pointer(&entry)
	return (*(*func() uint32)(unsafe.Pointer(&function)))()
}

// tried returns what that program said in a sandbox.
func tried(t *testing.T, d Driver, which string) string {
	t.Helper()
	program, mount, err := proberIn(d, t.TempDir())
	require.NoError(t, err)
	i := startSpec(t, d, Spec{Argv: []string{program}, Mounts: []Mount{mount}, Limits: probeLimits, Env: []string{syscallsVariable + "=" + which}})
	out, err := io.ReadAll(i.Stdout())
	require.NoError(t, err)
	return string(out)
}

func TestSystemCallsAreRefusedUnlessTheyAreNamed(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		var want strings.Builder
		for _, call := range systemCalls {
			fmt.Fprintf(&want, "%s: %d\n", call.name, call.refused)
		}
		require.Equal(t, want.String(), tried(t, d, named))
	})
}

func TestOtherTablesOfSystemCallsAreRefused(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		if strings.HasPrefix(d.Enforcement().Driver, "oci") {
			t.Skip("an OCI runtime makes its filter itself, which ends whoever tries")
		}
		require.Equal(t, "true true\n", tried(t, d, foreign))
	})
}
