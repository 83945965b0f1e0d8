package quota

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/fs.h, linux/quota.h, linux/dqblk_xfs.h.
const (
	iocGetXattr = 0x801c581f // FS_IOC_FSGETXATTR
	iocSetXattr = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit     = 0x200      // FS_XFLAG_PROJINHERIT

	projectQuota = 2                              // PRJQUOTA
	getQuotaCmd  = 0x800007<<8 | projectQuota     // QCMD(Q_GETQUOTA, PRJQUOTA)
	setQuotaCmd  = 0x800008<<8 | projectQuota     // QCMD(Q_SETQUOTA, PRJQUOTA)
	stateCmd     = (('X'<<8)+8)<<8 | projectQuota // QCMD(Q_XGETQSTATV, PRJQUOTA)

	spaceLimits  = 1       // QIF_BLIMITS
	limitUnit    = 1 << 10 // QIF_DQBLKSIZE
	stateVersion = 1       // FS_QSTATV_VERSION1
	enforcing    = 1 << 5  // FS_QUOTA_PDQ_ENFD
)

// fsxattr is struct fsxattr.
type fsxattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// dqblk is struct if_dqblk.
type dqblk struct {
	hardSpace, softSpace, space    uint64
	hardInodes, softInodes, inodes uint64
	spaceTime, inodeTime           uint64
	valid                          uint32
	_                              uint32
}

// state is struct fs_quota_statv.
type state struct {
	version uint8
	_       uint8
	flags   uint16
	_       [156]byte
}

// unsupported are the errors of file systems, and kernels, that have no project quotas, or do not let this process
// use them.
func unsupported(err error) bool {
	switch err {
	case unix.ENOSYS, unix.ENOTSUP, unix.ENOTTY, unix.EINVAL, unix.ESRCH, unix.ENOTBLK, unix.EPERM:
		return true
	}
	return false
}

// enforced returns ErrUnsupported unless the file system keeps to limits of projects.
func enforced(d *os.File) error {
	s := state{version: stateVersion}
	err := quotactl(d, stateCmd, 0, unsafe.Pointer(&s))
	if unsupported(err) || err == nil && s.flags&enforcing == 0 {
		return ErrUnsupported
	}
	if err != nil {
		return fmt.Errorf("state of project quotas: %w", err)
	}
	return nil
}

func getQuota(d *os.File, project uint32) (Usage, error) {
	var q dqblk
	err := quotactl(d, getQuotaCmd, project, unsafe.Pointer(&q))
	if err == unix.ENOENT { // XFS has none of this number
		return Usage{}, nil
	}
	if err != nil {
		return Usage{}, fmt.Errorf("quota of project %d: %w", project, err)
	}
	return Usage{Used: q.space, Limit: q.hardSpace * limitUnit}, nil
}

func setLimit(d *os.File, project uint32, size uint64) error {
	q := dqblk{hardSpace: (size + limitUnit - 1) / limitUnit, valid: spaceLimits}
	if err := quotactl(d, setQuotaCmd, project, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("set quota of project %d: %w", project, err)
	}
	return nil
}

// quotactl is quotactl_fd(2), since Linux 5.14.
func quotactl(d *os.File, cmd uintptr, id uint32, arg unsafe.Pointer) error {
	if _, _, no := unix.Syscall6(unix.SYS_QUOTACTL_FD, d.Fd(), cmd, uintptr(id), uintptr(arg), 0, 0); no != 0 {
		return no
	}
	return nil
}

// projectOf returns the number of the project that what is made in a directory belongs to, 0 for none.
func projectOf(d *os.File) (uint32, error) {
	x, err := getXattr(d)
	if err != nil || x.flags&inherit == 0 {
		return 0, err
	}
	return x.project, nil
}

func setProject(d *os.File, project uint32) error {
	x, err := getXattr(d)
	if err != nil {
		return err
	}
	x.project = project
	x.flags |= inherit
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, d.Fd(), iocSetXattr, uintptr(unsafe.Pointer(&x))); no != 0 {
		return fmt.Errorf("set project %d: %w", project, no)
	}
	return nil
}

func getXattr(d *os.File) (x fsxattr, _ error) {
	_, _, no := unix.Syscall(unix.SYS_IOCTL, d.Fd(), iocGetXattr, uintptr(unsafe.Pointer(&x)))
	switch {
	case no == 0:
		return x, nil
	case unsupported(no):
		return x, ErrUnsupported
	}
	return x, fmt.Errorf("project: %w", no)
}
