package sandbox

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Which system calls a sandboxed program may make: those that Moby's containers may make without any capability, and of
// those not the ones below. What is not named is refused, and so is every call through another architecture's table.

// notThere are calls that answer ENOSYS instead of EPERM: programs ask whether the kernel has them, and have another way
// when it has not. glibc cannot make a thread when clone3 is merely forbidden. A timer of timer_create's cannot be found
// again, and would end a later invocation; alarm and setitimer can.
var notThere = []string{"clone3", "timer_create", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "memfd_secret"}

// refused are calls that Moby allows and that a function has no need of: they look into other processes, or reach parts
// of the kernel that nothing but exploits asks for. The arguments of socket are looked at below.
var refused = append([]string{"ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "socket", "socketcall"}, notThere...)

// socketFamilies are the kinds of sockets that there are inside: netlink is how the C library lists network interfaces.
var socketFamilies = []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// filterWithSockets and filterWithoutSockets return the filter as the kernel takes it, an array of sock_filter. Without
// sockets is for drivers that share the host's network.
var (
	filterWithSockets    = sync.OnceValues(func() ([]byte, error) { return compileFilter(socketFamilies) })
	filterWithoutSockets = sync.OnceValues(func() ([]byte, error) { return compileFilter(nil) })
)

func compileFilter(families []uint64) ([]byte, error) {
	table, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	policy := seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
		{Names: known(table, notThere), Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
		allowed(table, families),
	}}
	program, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	instructions, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	var filter bytes.Buffer
	for _, i := range instructions {
		_ = binary.Write(&filter, binary.NativeEndian, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return filter.Bytes(), nil
}

// allowed makes Moby's list into one group.
func allowed(table *arch.Info, families []uint64) seccomp.SyscallGroup {
	group := seccomp.SyscallGroup{Action: seccomp.ActionAllow}
	for _, rule := range moby.DefaultProfile().Syscalls {
		if rule.Action != specs.ActAllow || !appliesHere(rule) {
			continue
		}
		for _, name := range slices.DeleteFunc(known(table, rule.Names), isRefused) {
			if len(rule.Args) == 0 {
				group.Names = append(group.Names, name)
			} else {
				group.NamesWithCondtions = append(group.NamesWithCondtions, conditional(name, argumentsOf(rule)))
			}
		}
	}
	for _, family := range families {
		group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{
			Name: "socket", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: family}},
		})
	}
	return group
}

// appliesHere tells whether a rule is for a program without capabilities on this architecture.
func appliesHere(rule *moby.Syscall) bool {
	if in := rule.Includes; in != nil && (len(in.Caps) > 0 || len(in.Arches) > 0 && !slices.Contains(in.Arches, runtime.GOARCH)) {
		return false
	}
	return rule.Excludes == nil || !slices.Contains(rule.Excludes.Arches, runtime.GOARCH)
}

// argumentsOf returns a rule's conditions. Of clone, CLONE_PARENT is refused as well: such a child would be the server's,
// which nobody buries.
func argumentsOf(rule *moby.Syscall) []specs.LinuxSeccompArg {
	args := slices.Clone(rule.Args)
	for i := range args {
		if args[i].Op == specs.OpMaskedEqual && slices.Contains(rule.Names, "clone") {
			args[i].Value |= unix.CLONE_PARENT
		}
	}
	return args
}

// conditional makes a rule out of Moby's two kinds of conditions: an argument has a value, or none of some bits.
func conditional(name string, args []specs.LinuxSeccompArg) seccomp.NameWithConditions {
	rule := seccomp.NameWithConditions{Name: name}
	for _, arg := range args {
		operation := seccomp.Equal
		if arg.Op == specs.OpMaskedEqual {
			operation = seccomp.BitsNotSet
		}
		rule.Conditions = append(rule.Conditions, seccomp.Condition{Argument: uint32(arg.Index), Operation: operation, Value: arg.Value})
	}
	return rule
}

// known leaves out what this architecture has not.
func known(table *arch.Info, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := table.SyscallNames[name]
		return !ok
	})
}

func isRefused(name string) bool { return slices.Contains(refused, name) }
