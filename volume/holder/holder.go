// Package holder lets mounts of snapshots outlive the process that serves them.
//
// Start with [Lower], which mounts snapshots as the lower layers of overlays.
package holder
