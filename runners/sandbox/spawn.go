package sandbox

import (
	"os/exec"
	"runtime"
	"sync"
)

// spawner is the one thread that starts processes. The kernel kills a process with Pdeathsig when the *thread* that
// started it ends, and the Go runtime ends threads as it likes: so this one never does.
var spawner = sync.OnceValue(func() chan<- func() {
	keepInherited()
	starts := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			start()
		}
	}()
	return starts
})

func spawn(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	spawner() <- func() { started <- cmd.Start() }
	return <-started
}
