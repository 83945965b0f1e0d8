package namespace

import "sync"

// mostRemembered bounds the memory for bindings that were verified.
const mostRemembered = 4096

// Remembering returns what does as Verify, for who reads many bindings and most of them again and again. It is safe for
// concurrent use.
func (n *Namespace) Remembering() func(data []byte) (Binding, error) {
	var mu sync.Mutex
	seen := map[string]Binding{}
	return func(data []byte) (Binding, error) {
		mu.Lock()
		b, ok := seen[string(data)]
		mu.Unlock()
		if ok {
			return b, nil
		}
		b, err := n.Verify(data)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			if len(seen) == mostRemembered {
				clear(seen)
			}
			seen[string(data)] = b
		}
		return b, err
	}
}
