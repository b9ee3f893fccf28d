//go:build linux

package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// disk is a file system of its own, mounted at dir. Mounts end with the sandbox.
type disk struct {
	dir   string
	image string // of an ext4; empty for a tmpfs
}

// newExt4 makes an ext4 in a file, mounted through a loop device.
func newExt4(t *testing.T, mebibytes int64) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{dir: filepath.Join(base, "disk"), image: filepath.Join(base, "image")}
	file, err := os.Create(d.image)
	if err == nil {
		err = file.Truncate(mebibytes << 20)
	}
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = command("mkfs.ext4", "-q", "-F", d.image)
	}
	if err == nil {
		err = os.Mkdir(d.dir, 0o700)
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// newTmpfs makes a small disk in memory.
func newTmpfs(t *testing.T, mebibytes int) *disk {
	t.Helper()
	d := &disk{dir: t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) mount() error   { return command("mount", "-o", "loop", d.image, d.dir) }
func (d *disk) unmount() error { return command("umount", d.dir) }

// EXT4_IOC_SHUTDOWN and its way that leaves the journal as it is: what no fsync
// has brought to the device is gone, as after a power cut.
const (
	ext4Shutdown = 0x8004587d // _IOR('X', 125, __u32)
	noLogFlush   = 2
)

// cutPower makes the disk fail from now on, without what only memory holds.
func (d *disk) cutPower() error {
	root, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // it was only read
	how := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, root.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		return fmt.Errorf("cut the power of %s: %w", d.dir, errno)
	}
	return nil
}

// freeze lets all writes hang; thaw lets them go on.
func (d *disk) freeze() error { return command("fsfreeze", "--freeze", d.dir) }
func (d *disk) thaw() error   { return command("fsfreeze", "--unfreeze", d.dir) }

// fill leaves so much room, by a file that drain removes again.
func (d *disk) fill(leave int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		return err
	}
	file, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // its content does not matter
	page := make([]byte, st.Bsize)
	for range max(0, int64(st.Bavail)-leave/st.Bsize) {
		if _, err := file.Write(page); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) drain() error    { return os.Remove(d.ballast()) }
func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }
