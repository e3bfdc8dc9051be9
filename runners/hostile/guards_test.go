package hostile

import (
	"testing"

	"github.com/voltrun/voltrun/guardtest"
)

// Without what is named here, a hostile handler gets further than it should. Before that, the probe of the sandbox would
// refuse it: so it is taken out as well.
func TestEveryGuardAgainstHandlersIsMissedWhenItIsGone(t *testing.T) {
	const (
		hostile = "TestHostileHandlers/auto/try/"
		bwrap   = "../sandbox/bwrap_linux.go"
	)
	var guards []guardtest.Guard
	for _, g := range []guardtest.Guard{
		{
			Name: "a system call that is not named is refused", File: "../sandbox/seccomp_linux.go", Code: "seccomp.ActionErrno",
			In: "DefaultAction: seccomp.ActionErrno", Without: "seccomp.ActionAllow", CaughtBy: hostile + "kernel python keys",
		},
		{
			Name: "a function has a user of its own", File: bwrap, Code: "drop(as)", Without: "[]string(nil)", CaughtBy: hostile + "rights python as the kernel sees them",
		},
		{
			Name: "a function has a network of its own", File: bwrap, Code: `args = append(args, "--unshare-net")`,
			CaughtBy: hostile + "network python the server and the host",
		},
		{
			Name: "mounts are read-only, for root as well", File: bwrap, Code: `"--ro-bind"`,
			In: `"--ro-bind", m.Source, filepath.Clean(m.Target)`, Without: `"--bind"`, CaughtBy: hostile + "files python its own code",
		},
		{
			Name: "mounts are read-only, for root as well", File: bwrap, Code: "drop(as)", Without: "[]string(nil)",
		},
		{
			Name: "an answer has the invocation's token", File: "../frame.go", Code: "token(head[5:]) != invocation", Without: "false",
			CaughtBy: hostile + "channel python forges an answer",
		},
		{
			Name: "a process that left others behind is not used again", File: "../pool.go", Code: "left == 0", Without: "true",
			CaughtBy: hostile + "leaving python a daemon",
		},
		{
			Name: "a process says whether it may be used again", File: "../worker.go", Code: "answer.clean", In: "reusable: answer.clean", Without: "true",
			CaughtBy: hostile + "leaving nodejs a silent interval",
		},
	} {
		probe := guardtest.Guard{Name: g.Name, File: "../sandbox/choose.go", Code: "probe(ctx, d)", Without: "error(nil)"}
		guards = append(guards, g)
		if g.CaughtBy != "" {
			guards = append(guards, probe)
		}
	}
	guardtest.Run(t, guards)
}
