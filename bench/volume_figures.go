package main

import "slices"

// The contenders of the second part that the first does not have.
const (
	volumeName    = "volume"
	fullName      = "volume, lower=full"
	clusterName   = "volume, cluster"
	plainName     = "ext4"
	ipfsMountName = "ipfs mount"
)

// A figure is one quantity that the second part measures, by its name in the report.
type figure string

const (
	mountFew  figure = "create and mount, few files"
	mountMany figure = "create and mount, many files"
	mountOne  figure = "create and mount, one large file"
	byteFew   figure = "first byte, few files"
	byteMany  figure = "first byte, many files"
	byteOne   figure = "first byte, one large file"

	serveFiles figure = "mount, files"
	coldServed figure = "stat-walk, cold"
	coldNames  figure = "stat by name, cold"
	serveOne   figure = "mount, large file"
	byteServed figure = "first byte of the large file"
	coldRead   figure = "first sequential read"
	againRead  figure = "second sequential read"

	warmRead   figure = "sequential read"
	warmRandom figure = "random reads of 4 KiB"

	coldWalk   figure = "first stat-walk"
	walkMemory figure = "daemon's peak memory, walked twice"
	warmFind   figure = "find"
	warmWalk   figure = "stat-walk"

	syncFile          figure = "write of one file and sync of the disk"
	commitMany        figure = "commit, many files"
	commitSingle      figure = "commit, one directory"
	commitManyNone    figure = "commit of no change, many files"
	commitSingleNone  figure = "commit of no change, one directory"
	commitManySpace   figure = "newly stored, many files"
	commitSingleSpace figure = "newly stored, one directory"
	commitPart        figure = "next snapshot, part of the many files"

	acknowledged    figure = "commit, acknowledged"
	replicated      figure = "commit, pinned on two peers"
	listPins        figure = "pin ls"
	listPinsMemory  figure = "pin ls, peak memory"
	learnPins       figure = "volume ls of a new host"
	learnPinsMemory figure = "volume ls of a new host, peak memory"

	sqliteInsert figure = "SQLite, inserts"
	sqliteSelect figure = "SQLite, selects"
	goBuild      figure = "go build"

	newWrite figure = "write and fsync"
)

// A row is how a figure is reported.
type row struct {
	group  string
	figure figure
	unit   string
	digits int
	rising bool // more is better
}

// rows are all figures in the order of the report.
func rows() []row {
	return []row{
		{"mount", mountFew, "ms", 1, false},
		{"mount", mountMany, "ms", 1, false},
		{"mount", mountOne, "ms", 1, false},
		{"mount", byteFew, "ms", 1, false},
		{"mount", byteMany, "ms", 1, false},
		{"mount", byteOne, "ms", 1, false},

		{"served", serveFiles, "ms", 0, false},
		{"served", coldServed, "µs an entry", 1, false},
		{"served", coldNames, "µs a file", 1, false},
		{"served", serveOne, "ms", 0, false},
		{"served", byteServed, "ms", 1, false},
		{"served", coldRead, "GB/s", 2, true},
		{"served", againRead, "GB/s", 2, true},

		{"read", warmRead, "GB/s", 2, true},
		{"read", warmRandom, "1000/s", 0, true},

		{"walk", coldWalk, "µs an entry", 2, false},
		{"walk", warmWalk, "µs an entry", 2, false},
		{"walk", warmFind, "µs an entry", 2, false},
		{"walk", walkMemory, "MiB", 0, false},

		{"commit", syncFile, "ms", 1, false},
		{"commit", commitMany, "ms", 1, false},
		{"commit", commitSingle, "ms", 1, false},
		{"commit", commitManyNone, "ms", 1, false},
		{"commit", commitSingleNone, "ms", 1, false},
		{"commit", commitManySpace, "KiB", 1, false},
		{"commit", commitSingleSpace, "KiB", 1, false},
		{"commit", commitPart, "ms", 0, false},

		{"cluster", acknowledged, "ms", 1, false},
		{"cluster", replicated, "ms", 0, false},
		{"pins", listPins, "s", 2, false},
		{"pins", listPinsMemory, "MiB", 0, false},
		{"pins", learnPins, "s", 2, false},
		{"pins", learnPinsMemory, "MiB", 0, false},

		{"programs", sqliteInsert, "s", 3, false},
		{"programs", sqliteSelect, "s", 3, false},
		{"programs", goBuild, "s", 2, false},

		{"write", newWrite, "GB/s", 2, true},
	}
}

// row is how the figure is reported.
func (f figure) row() row {
	for _, r := range slices.Concat(rows(), networkRows(), dockerRows()) {
		if r.figure == f {
			return r
		}
	}
	return row{figure: f}
}

// series names all measurements of a figure by one contender.
type series struct {
	figure    figure
	contender string
}

// volumeResults are all measurements of the second part.
type volumeResults struct {
	findings
	sizes volumeSizes
}
