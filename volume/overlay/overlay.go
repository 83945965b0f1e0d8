// Package overlay joins a read-only view of a snapshot and a local directory for changes into one mount, by the
// kernel's overlayfs, and turns what was changed into a new snapshot.
//
// Start with [New], the mounter for volumes, or with [Merge], which makes of a base and the layers of a mount the
// snapshot that is seen through it.
package overlay
