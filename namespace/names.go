package namespace

import "iter"

// Names says which volume has each name. newest has the binding of each volume that counts, in any order; a removed
// volume has no name. Two volumes can be bound to one name by hosts that did not hear of each other: then every host
// gives it to the same one, and the other has none until it is renamed.
func Names(newest iter.Seq[Binding]) map[string]Binding {
	names := map[string]Binding{}
	for b := range newest {
		if b.Removed() {
			continue
		}
		if other, taken := names[b.Name]; !taken || Compare(other, b) < 0 {
			names[b.Name] = b
		}
	}
	return names
}
