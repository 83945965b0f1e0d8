package snapshot

// Layered is what a [Blocks] has beyond that if it gets what is not here from elsewhere. Local returns what is here
// alone: of which Get says how it is missing or damaged, and waits for nobody.
type Layered interface {
	Local() Blocks
}

// Local returns the part of b that is here: b itself unless it is [Layered].
func Local(b Blocks) Blocks {
	if l, ok := b.(Layered); ok {
		return l.Local()
	}
	return b
}
