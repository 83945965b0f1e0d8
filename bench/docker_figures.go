package main

// The contenders of the fourth part that the others do not have.
const (
	localName  = "local driver"
	rcloneName = "rclone"
)

const (
	containerByte figure = "first byte"
	containerAll  figure = "until its file was read and the container was gone"

	pgFirst     figure = "pgbench, first run"
	pgNext      figure = "pgbench, runs after that"
	pgProcessor figure = "processor time a transaction, the whole host"

	hundredRead      figure = "until each has read its file"
	hundredProcessor figure = "processor time until then, the whole host"
	hundredGone      figure = "until all are removed"
)

// dockerRows are all figures of the fourth part in the order of the report.
func dockerRows() []row {
	return []row{
		{"first-byte", containerByte, "ms", 0, false},
		{"first-byte", containerAll, "ms", 0, false},

		{"pgbench", pgFirst, "1/s", 0, true},
		{"pgbench", pgNext, "1/s", 0, true},
		{"pgbench", pgProcessor, "µs", 0, false},

		{"hundred", hundredRead, "s", 1, false},
		{"hundred", hundredProcessor, "s", 1, false},
		{"hundred", hundredGone, "s", 1, false},
	}
}

// dockerResults are all measurements of the fourth part.
type dockerResults struct {
	findings
	sizes dockerSizes
}

// targets holds the figures against what was asked for.
func (r *dockerResults) targets() []target {
	return []target{
		r.later(containerByte, 1000),
		r.beside(pgNext, volumeName, 0.9), r.beside(pgNext, fullName, 0.9),
		r.beside(hundredRead, volumeName, notSlower),
	}
}
