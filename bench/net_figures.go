package main

// The contenders of the third part that the others do not have.
const (
	manyHostsName = "50 hosts"
	daemonsName   = "three daemons"
	joinerName    = "a new host"

	streamName = "libp2p stream"
	curlName   = "curl"
	getName    = "ipfs get"
	// What volary does, from one peer and from three.
	catName, catThreeName         = "cat", "cat, 3 peers"
	throughName, throughThreeName = "volume", "volume, 3 peers"
	hydrateName, hydrateThreeName = "hydrate", "hydrate, 3 peers"
	restoreName                   = "restore"
)

const (
	hostHalf       figure = "known on another host, half of the heads"
	hostMost       figure = "known on another host, 99 of 100 heads"
	allHalf        figure = "known on all hosts, half of the heads"
	allMost        figure = "known on all hosts, 99 of 100 heads"
	wholeHalf      figure = "from the beginning of the commit to known on all, half"
	wholeMost      figure = "from the beginning of the commit to known on all, 99 of 100"
	commitHalf     figure = "commit, half of them"
	bytesAHead     figure = "sent by a host for a head of any"
	processorAHead figure = "processor time for a head, all hosts"

	joinTime      figure = "until all volumes are known"
	joinProcessor figure = "processor time, all 200 hosts"
	joinHeap      figure = "heap that comes to those of 200 hosts"
	joinReceived  figure = "received"

	readSpeed     figure = "read"
	readProcessor figure = "processor time, both ends"
)

// networkRows are all figures of the third part in the order of the report.
func networkRows() []row {
	return []row{
		{"spread", hostHalf, "ms", 1, false},
		{"spread", hostMost, "ms", 1, false},
		{"spread", allHalf, "ms", 1, false},
		{"spread", allMost, "ms", 1, false},
		{"spread", wholeHalf, "ms", 1, false},
		{"spread", wholeMost, "ms", 1, false},
		{"spread", commitHalf, "ms", 1, false},
		{"spread", bytesAHead, "bytes", 0, false},
		{"spread", processorAHead, "ms", 1, false},

		{"join", joinTime, "s", 2, false},
		{"join", joinProcessor, "s", 2, false},
		{"join", joinHeap, "MiB", 0, false},
		{"join", joinReceived, "MiB", 1, false},

		{"read", readSpeed, "GB/s", 2, true},
		{"read", readProcessor, "s", 2, false},
	}
}

// networkResults are all measurements of the third part.
type networkResults struct {
	findings
	sizes networkSizes
}

// targets holds the figures against what was asked for.
func (r *networkResults) targets() []target {
	return []target{
		r.below(manyHostsName, allMost, 250),
		r.below(joinerName, joinTime, 5),
		r.beside(catName, streamName, 0.7), r.beside(throughName, streamName, 0.7), r.beside(hydrateName, streamName, 0.7),
		r.beside(catThreeName, catName, notSlower), r.beside(throughThreeName, throughName, notSlower), r.beside(hydrateThreeName, hydrateName, notSlower),
	}
}
