package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// rootPlan is a file system of a process's own, which has the mount namespace already.
type rootPlan struct {
	OwnNetwork bool              // is in a new network namespace, with nothing in it
	On         string            // a folder of the host to build it on
	Mounts     []Mount           // read-only
	Links      map[string]string // such as /bin to usr/bin
	TmpBytes   int64
}

// devices are what there is in /dev beside links, and shm and pts. They are the host's own files.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// kernelSettings are what even the owner of a user namespace should not change.
var kernelSettings = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"}

// tmpfsFlags are for every folder that can be written to: no device and no file with another user's rights counts there.
const tmpfsFlags = unix.MS_NOSUID | unix.MS_NODEV

// fileBytes is how many bytes of a bounded folder there are for each file in it: empty ones take memory too.
const fileBytes = 4096

func (r *rootPlan) enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to itself: %w", err)
	}
	for _, step := range []func() error{r.makeRoot, r.mountFolders, r.makeLinks, r.makeDevices, r.makeProc, r.makeTmp, r.pivot, r.nameHost} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *rootPlan) path(inside string) string { return filepath.Join(r.On, inside) }

func (r *rootPlan) makeRoot() error {
	unix.Umask(0o022)
	return mountTmpfs(r.On, 1<<20, 0o755)
}

func (r *rootPlan) mountFolders() error {
	for _, m := range r.Mounts {
		if err := r.bind(m.Source, m.Target); err != nil {
			return err
		}
		if err := makeReadOnly(r.path(m.Target), unix.AT_RECURSIVE); err != nil {
			return err
		}
	}
	return nil
}

// bind shows a file or folder of the host. In a user namespace what is mounted below must come with it.
func (r *rootPlan) bind(source, target string) error {
	point := r.path(target)
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(point), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(point, 0o755)
	} else if _, missing := os.Stat(point); missing != nil {
		err = os.WriteFile(point, nil, 0o644)
	}
	if err == nil {
		err = unix.Mount(source, point, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

func makeReadOnly(path string, flags uint) error {
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &attributes); err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}

func (r *rootPlan) makeLinks() error {
	for path, target := range r.Links {
		if err := os.Symlink(target, r.path(path)); err != nil {
			return err
		}
	}
	return nil
}

func (r *rootPlan) makeDevices() error {
	dev := r.path("/dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := mountTmpfs(dev, 1<<20, 0o755); err != nil {
		return err
	}
	for _, device := range devices {
		if err := r.bind("/dev/"+device, "/dev/"+device); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, folder := range []string{"shm", "pts"} {
		if err := os.Mkdir(filepath.Join(dev, folder), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("mount terminals: %w", err)
	}
	if err := mountTmpfs(filepath.Join(dev, "shm"), shmBytes, 0o1777); err != nil {
		return err
	}
	return remountReadOnly(dev)
}

func (r *rootPlan) makeProc() error {
	proc := r.path("/proc")
	if err := os.Mkdir(proc, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, path := range kernelSettings {
		path = r.path(path)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", path, err)
		}
		if err := makeReadOnly(path, 0); err != nil {
			return err
		}
	}
	return nil
}

func (r *rootPlan) makeTmp() error {
	if err := os.Mkdir(r.path("/tmp"), 0o755); err != nil {
		return err
	}
	return mountTmpfs(r.path("/tmp"), r.TmpBytes, 0o1777)
}

// pivot makes the new root the root, puts the old one on top of it and takes that away with all that is mounted there.
func (r *rootPlan) pivot() error {
	if err := remountReadOnly(r.On); err != nil {
		return err
	}
	if err := unix.Chdir(r.On); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's files: %w", err)
	}
	return unix.Chdir("/")
}

func mountTmpfs(at string, bytes int64, mode uint32) error {
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=%o", bytes, bytes/fileBytes, mode)
	if err := unix.Mount("tmpfs", at, "tmpfs", tmpfsFlags, options); err != nil {
		return fmt.Errorf("mount memory at %s: %w", at, err)
	}
	return nil
}

func remountReadOnly(path string) error {
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &attributes); err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}

func (r *rootPlan) nameHost() error {
	if err := unix.Sethostname([]byte("function")); err != nil || !r.OwnNetwork {
		return err
	}
	return loopbackUp()
}

// loopbackUp lets a program talk to itself: a new network namespace has nothing else.
func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("start the loopback: %w", err)
	}
	return nil
}
