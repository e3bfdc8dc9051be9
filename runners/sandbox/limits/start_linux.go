package limits

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// Start starts a command inside the group, by calling start, which is cmd.Start or calls it where it has to be called.
//
// On cgroup v2 the process begins in the group. On v1 it can only be moved: a shell waits for that and then becomes the
// command, on the last of its descriptors, which it closes. It has the command's environment: nothing that others wrote.
func (g *Group) Start(cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	if g.manager == nil {
		return start(cmd)
	}
	if g.folder != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(g.folder.Fd())
		return start(cmd)
	}
	waiting, release, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = release.Close() }()
	waitForGroup(cmd, waiting)
	err = start(cmd)
	_ = waiting.Close()
	if err != nil {
		return err
	}
	if err = g.Add(cmd.Process.Pid); err == nil {
		_, err = release.WriteString("\n")
	}
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), reap(cmd))
	}
	return nil
}

// waitForGroup lets a shell wait for a line before it becomes the command. When the server ends before, it ends too.
func waitForGroup(cmd *exec.Cmd, waiting *os.File) {
	cmd.ExtraFiles = append(cmd.ExtraFiles, waiting)
	descriptor := strconv.Itoa(2 + len(cmd.ExtraFiles))
	program := cmd.Path
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", `read -r _ <&` + descriptor + ` && exec ` + descriptor + `<&- && exec "$0" "$@"`, program}, cmd.Args[1:]...)
}

func reap(cmd *exec.Cmd) error {
	if err := cmd.Wait(); !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	return nil
}
