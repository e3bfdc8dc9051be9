package runners

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/voltrun/voltrun/domain"
)

// ProcessRunner runs each handler in a process of its own, started for the run and gone after it. As root it runs each
// as an unprivileged user of its own. It bounds their time, memory, output and log, but it is no sandbox: they reach the
// network and what everybody may read.
type ProcessRunner struct {
	runtimes   *Runtimes
	users      *users
	workspaces *workspaces
	logger     *slog.Logger
}

// NewProcessRunner prepares a folder for the runs under the system's temporary folder. Close removes it. A nil logger is
// slog.Default.
func NewProcessRunner(runtimes *Runtimes, logger *slog.Logger) (*ProcessRunner, error) {
	if logger == nil {
		logger = slog.Default()
	}
	users, err := openUsers()
	if err != nil {
		return nil, fmt.Errorf("prepare the users that functions run as: %w", err)
	}
	workspaces, err := newWorkspaces(users)
	if err != nil {
		users.close()
		return nil, fmt.Errorf("prepare the folder that functions run in: %w", err)
	}
	return &ProcessRunner{runtimes: runtimes, users: users, workspaces: workspaces, logger: logger}, nil
}

// Close removes the runner's folder. Nothing may run any more.
func (r *ProcessRunner) Close() error {
	r.users.close()
	return r.workspaces.close()
}

// Run implements Runner.
func (r *ProcessRunner) Run(ctx context.Context, inv Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
	interpreter, err := r.runtimes.Resolve(inv.Function.Runtime)
	if err != nil {
		return failed(domain.ErrorRuntimeUnavailable, err.Error()).event(0, 0)
	}
	as, err := r.users.take(ctx)
	switch {
	case ctx.Err() != nil && err != nil:
		return stoppedVerdict.event(0, 0)
	case err != nil:
		return r.internalFailure(ctx, inv, "find a user to run as", err)
	}
	run := &processRun{
		Invocation: inv, as: as, token: rand.Text(), timeout: time.Duration(inv.Function.TimeoutSec) * time.Second,
	}
	end := r.run(ctx, run, interpreter, emit)
	if run.strays == nil {
		r.users.giveBack(as)
	} else { // nobody else may run as this user as long as something of the run lives
		r.logger.ErrorContext(ctx, "processes of a run could not be ended", "execution", inv.ExecutionID, "uid", as.Uid, "error", run.strays)
	}
	return end
}

func (r *ProcessRunner) run(ctx context.Context, run *processRun, i Interpreter, emit func(domain.ExecutionLogLine)) domain.Event {
	var err error
	if run.folder, err = r.workspaces.create(run.Function, run.as); err != nil {
		return r.internalFailure(ctx, run.Invocation, "prepare the folder of a run", err)
	}
	defer r.remove(run.folder)
	run.started = time.Now()
	if run.process, err = startProcess(r.command(i, run), run.as); err != nil {
		return r.internalFailure(ctx, run.Invocation, "start a handler's process", err)
	}
	return run.follow(ctx, emit)
}

func (r *ProcessRunner) internalFailure(ctx context.Context, inv Invocation, what string, err error) domain.Event {
	r.logger.ErrorContext(ctx, "a function could not be run", "execution", inv.ExecutionID, "function", inv.Function.ID, "doing", what, "error", err)
	return failed(domain.ErrorInternal, "VoltRun could not start the function. Run it again; if that does not help, tell the operator.").event(0, 0)
}

func (r *ProcessRunner) remove(folder *workspace) {
	if err := folder.remove(); err != nil {
		r.logger.Warn("the folder of a run could not be removed", "folder", folder.root, "error", err)
	}
}

// launch lowers the limits of the process that then becomes the interpreter: no core files, and as much private
// writable memory as it is given in KiB. Only the process itself can do this, and every shell can.
const launch = `ulimit -c 0; ulimit -d "$0"; exec "$@"`

// nodeHeadroomMB is what Node.js may have beside memory_mb, most of which bounds V8's heap. With less than 96, V8 now
// and then dies of a segmentation fault in its own garbage collection instead of saying that its heap is full.
const nodeHeadroomMB = 128

func (r *ProcessRunner) command(i Interpreter, run *processRun) *exec.Cmd {
	memory := run.Function.MemoryMB
	limit, args := memory, []string{i.Path, "-I", "-B", r.workspaces.shim(pythonShim)}
	if !i.Python {
		limit = memory + nodeHeadroomMB
		args = []string{i.Path, fmt.Sprintf("--max-old-space-size=%d", memory*4/5), r.workspaces.shim(nodeShim)}
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", launch, strconv.Itoa(limit << 10)}, args...)...)
	cmd.Dir = run.folder.tmp
	cmd.Env = append(baseEnvironment(i.Path), run.marker(), "HOME="+run.folder.tmp, "TMPDIR="+run.folder.tmp)
	return cmd
}

// baseEnvironment is everything that a function's process inherits: nothing of the server's own environment, which
// holds secrets and variables that make interpreters slow.
func baseEnvironment(interpreter string) []string {
	return []string{"PATH=" + filepath.Dir(interpreter) + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TZ=UTC", "USER=function"}
}
