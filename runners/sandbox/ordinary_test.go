//go:build linux

package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// ordinaryUser is nobody's number, and none of those that functions run as.
const ordinaryUser = 60_720

// TestAnOrdinaryUsersServerIsolatesToo runs all other tests again as a user without any rights, but for those of OCI
// runtimes, which want more of a host than most give to ordinary users.
func TestAnOrdinaryUsersServerIsolatesToo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user")
	}
	folder := mountable(t)
	program := filepath.Join(folder, "sandbox.test")
	require.NoError(t, copyProgram(os.Args[0], program))
	home := filepath.Join(folder, "home")
	require.NoError(t, os.Mkdir(home, 0o700))
	require.NoError(t, os.Chown(home, ordinaryUser, ordinaryUser))

	suite := exec.Command(program, "-test.timeout=3m", "-test.v", "-test.skip=/oci|OCI")
	suite.Dir, suite.Env = home, []string{"HOME=" + home, "TMPDIR=" + home, "PATH=/usr/bin:/bin"}
	suite.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}, Pdeathsig: syscall.SIGKILL}
	out, err := suite.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestAutoTakesTheStrongestDriverThatHolds")
}
