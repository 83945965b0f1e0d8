package modeltest

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (d dice) create() (Op, bool) {
	p, ok := d.fresh()
	flags := one(d, 0, unix.O_TRUNC, unix.O_TRUNC|unix.O_EXCL, unix.O_EXCL, 0, unix.O_TRUNC)
	return Op{Kind: "create", Path: p, Off: int64(flags), Len: d.size(), Seed: d.Uint64(), Mode: one[uint32](d, 0o644, 0o600, 0o755, 0o4755, 0o2755)}, ok
}

func (d dice) mkdir() (Op, bool) {
	p, ok := d.fresh()
	return Op{Kind: "mkdir", Path: p, Mode: one[uint32](d, 0o755, 0o700, 0o2775, 0o1777)}, ok
}

func (d dice) link() (Op, bool) {
	p, ok := d.pick(noDir)
	q, ok2 := d.fresh()
	return Op{Kind: "link", Path: p, To: q}, ok && ok2
}

func (d dice) symlink() (Op, bool) {
	p, ok := d.fresh()
	return Op{Kind: "symlink", Path: p, Value: strings.Repeat("../t", d.IntN(20)) + "x"}, ok
}

func (d dice) mknod() (Op, bool) {
	p, ok := d.fresh()
	o := Op{Kind: "mknod", Path: p, Mode: one[uint32](d, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK) | 0o640}
	if kind := o.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		o.Off = int64(unix.Mkdev(1, 3)) // 0/0 is a whiteout, which an overlay refuses to make
	}
	return o, ok
}

func (d dice) tmpfile() (Op, bool) {
	p, ok := d.fresh()
	o := Op{Kind: "tmpfile", Path: p, To: p, Len: d.size(), Seed: d.Uint64(), Mode: 0o640}
	if d.IntN(4) == 0 {
		o.To = ""
	}
	return o, ok
}

func (d dice) sparse() (Op, bool) {
	p, ok := d.fresh()
	if d.IntN(2) == 0 {
		p, ok = d.pick(file)
	}
	return Op{Kind: "sparse", Path: p, Off: int64(d.IntN(150_000)), Len: min(d.size(), 9_000), Seed: d.Uint64(), Mode: 0o644}, ok
}

func (d dice) write() (Op, bool) {
	p, ok := d.pick(file)
	return Op{Kind: "write", Path: p, Off: int64(one(d, 0, d.IntN(60_000), d.IntN(60_000))), Len: d.size(), Seed: d.Uint64()}, ok
}

func (d dice) appendTo() (Op, bool) {
	p, ok := d.pick(file)
	return Op{Kind: "append", Path: p, Len: d.size(), Seed: d.Uint64()}, ok
}

func (d dice) copy() (Op, bool) {
	p, ok := d.pick(file)
	q, ok2 := d.fresh()
	return Op{Kind: "copy", Path: p, To: q, Off: int64(d.IntN(5_000)), Len: d.size()}, ok && ok2
}

func (d dice) truncate() (Op, bool) {
	p, ok := d.pick(file)
	return Op{Kind: "truncate", Path: p, Len: int64(one(d, 0, d.IntN(100_000), d.IntN(100_000)))}, ok
}

func (d dice) allocate() (Op, bool) {
	p, ok := d.pick(file)
	var st unix.Stat_t
	if !ok || unix.Lstat(d.root+"/"+p, &st) != nil || st.Size < 2 {
		return Op{}, false
	}
	o := Op{Kind: one(d, "punch", "punch", "zero", "allocate"), Path: p, Off: int64(d.IntN(50_000)) % st.Size, Len: int64(1 + d.IntN(50_000))}
	if o.Kind == "allocate" {
		o.Off = st.Size // inside it might change nothing, and a mere opening for writing may show in the file's time
	}
	return o, true
}

func (d dice) unlink() (Op, bool) {
	p, ok := d.pick(noDir)
	return Op{Kind: "unlink", Path: p}, ok
}

func (d dice) rmdir() (Op, bool) {
	p, ok := d.pick(directory)
	return Op{Kind: "rmdir", Path: p}, ok && p != ""
}

func (d dice) remove() (Op, bool) {
	p, ok := d.pick(directory)
	return Op{Kind: "remove", Path: p}, ok && strings.Contains(p, "/")
}

func (d dice) unlinked() (Op, bool) {
	p, ok := d.pick(file)
	return Op{Kind: "unlinked", Path: p, Off: int64(d.IntN(9_000))}, ok
}

// besides gives an entry another name, in its own directory or elsewhere.
func (d dice) besides(p string) (string, bool) {
	if d.IntN(2) == 0 {
		return path.Join(path.Dir(p), d.name()), true
	}
	return d.fresh()
}

func (d dice) rename() (Op, bool) {
	p, ok := d.pick(noDir)
	q, ok2 := d.besides(p)
	return Op{Kind: "rename", Path: p, To: q, Mode: one[uint32](d, 0, 0, 0, unix.RENAME_NOREPLACE)}, ok && ok2
}

func (d dice) renameDir() (Op, bool) {
	p, ok := d.pick(directory)
	q, ok2 := d.besides(p)
	return Op{Kind: "rename", Path: p, To: q}, ok && ok2 && p != ""
}

func (d dice) exchange() (Op, bool) {
	p, ok := d.pick(anything)
	q, ok2 := d.pick(anything)
	return Op{Kind: "rename", Path: p, To: q, Mode: unix.RENAME_EXCHANGE}, ok && ok2 && p != "" && q != ""
}

func (d dice) chmod() (Op, bool) {
	p, ok := d.pick(anything)
	var st unix.Stat_t
	if !ok || unix.Lstat(d.root+"/"+p, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return Op{}, false
	}
	return Op{Kind: "chmod", Path: p, Mode: one[uint32](d, 0o644, 0o600, 0o755, 0o4711, 0, 0o2750)}, true
}

func (d dice) chown() (Op, bool) {
	p, ok := d.pick(anything)
	return Op{Kind: "chown", Path: p, Off: int64(d.IntN(3) * 1000), Len: int64(d.IntN(3) * 1000)}, ok
}

func (d dice) times() (Op, bool) {
	p, ok := d.pick(anything)
	return Op{Kind: "times", Path: p, Off: one[int64](d, 1_000_000_000, 1_234_567_890, 1_400_000_000, -5)*1e9 + int64(d.IntN(1e9))}, ok
}

// Binary forms that the kernel demands (linux/capability.h, linux/posix_acl_xattr.h).
const (
	capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	acl        = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x00\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
)

// overlayXattr begins the names of overlayfs' own attributes.
const overlayXattr = "trusted.overlay."

func xattrNames() []string {
	return []string{
		"user.a", "user.b", "user.large", "trusted.t", overlayXattr + "opaque", overlayXattr + "redirect", overlayXattr + "metacopy",
		overlayXattr + "z", "security.capability", "security.x", "system.posix_acl_access", "system.posix_acl_default",
	}
}

func (d dice) setXattr() (Op, bool) {
	p, ok := d.pick(anything)
	o := Op{Kind: "setxattr", Path: p, Name: one(d, xattrNames()...), Value: one(d, "", "y", "value", strings.Repeat("v", d.IntN(200)))}
	switch {
	case o.Name == "security.capability":
		o.Value = capability
	case strings.HasPrefix(o.Name, "system."):
		o.Value = acl
	case o.Name == "user.large":
		o.Value = strings.Repeat("large", d.IntN(500))
	}
	return o, ok
}

func (d dice) removeXattr() (Op, bool) {
	p, ok := d.pick(anything)
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(d.root+"/"+p, buf)
	if !ok || err != nil {
		return Op{}, false
	}
	names := slices.DeleteFunc(strings.Split(string(buf[:n]), "\x00"), func(s string) bool { return s == "" })
	slices.Sort(names)
	return Op{Kind: "removexattr", Path: p, Name: one(d, append(names, "user.a")...)}, true
}

func (d dice) hold() (Op, bool) {
	p, ok := d.pick(file)
	return Op{Kind: kindHold, Path: p, Off: int64(d.IntN(1 << 20)), Seed: d.Uint64(), Mode: uint32(d.IntN(2))}, ok
}

func (d dice) held() (Op, bool) {
	return Op{Kind: kindHeld, Off: int64(d.IntN(1 << 20)), Seed: d.Uint64(), Mode: uint32(max(0, d.IntN(3)-1))}, true
}
