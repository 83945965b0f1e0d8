package store

// Labels of the durable steps, each reached right after the named thing was done. A process that stops at any
// of them leaves a store that opens, with everything that was acknowledged.
const (
	StepPackCreated    = "pack-created"        // a new pack file exists, its directory is not synced
	StepPackWritten    = "pack-written"        // frames were handed to the kernel
	StepPackSynced     = "pack-synced"         // frames are on the disk, not in the index
	StepPackDirSynced  = "pack-dir-synced"     // so are the names of new packs
	StepIndexed        = "indexed"             // the index holds them
	StepRecorded       = "recorded"            // records were set
	StepLossNoted      = "loss-noted"          // a pack found missing or short is known to be, complete marks are void
	StepDropped        = "dropped"             // a damaged block was taken out of the index
	StepMarksDropped   = "sweep-marks-dropped" // no complete mark speaks of what goes
	StepSwept          = "sweep-swept"         // a batch of dead blocks left the index
	StepCompactCopied  = "compact-copied"      // live frames of a pack were copied and synced
	StepCompactIndexed = "compact-indexed"     // the index names the copies, the old pack is doomed
	StepCompactRemoved = "compact-removed"     // the old pack is deleted, its record is not
)

// Steps lists all labels.
func Steps() []string {
	return []string{
		StepPackCreated, StepPackWritten, StepPackSynced, StepPackDirSynced, StepIndexed, StepRecorded, StepLossNoted,
		StepDropped, StepMarksDropped, StepSwept, StepCompactCopied, StepCompactIndexed, StepCompactRemoved,
	}
}
