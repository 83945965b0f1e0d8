package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// MaxTagName is the longest name of a tag in bytes.
const MaxTagName = 255

// A Tag is a name for a root. It keeps the root and all that it links to, as a pin does.
type Tag struct {
	Name string
	Root cid.Cid
}

// Tag names a root; a name that exists is moved.
func (s *Set) Tag(ctx context.Context, name string, root cid.Cid) error {
	if err := checkTag(name); err != nil {
		return err
	}
	if !root.Defined() {
		return errors.New("tag without a root")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.set(ctx, tagPrefix+name, tagRecord{Version: recordVersion, Root: root.String()}); err != nil {
		return fmt.Errorf("tag %s: %w", root, err)
	}
	s.grow(root)
	return nil
}

// Untag forgets a name. It is no error if there is none.
func (s *Set) Untag(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store.SetRecords(ctx, map[string][]byte{tagPrefix + name: nil}); err != nil {
		return fmt.Errorf("untag %q: %w", name, err)
	}
	return nil
}

// Tagged returns the root a name stands for; the error wraps ErrNoTag if there is none.
func (s *Set) Tagged(ctx context.Context, name string) (cid.Cid, error) {
	value, err := s.store.Record(ctx, tagPrefix+name)
	if err != nil {
		return cid.Undef, err
	}
	if value == nil {
		return cid.Undef, fmt.Errorf("tag %q: %w", name, ErrNoTag)
	}
	return decodeTag(name, value)
}

// Tags lists the tags by name.
func (s *Set) Tags(ctx context.Context) iter.Seq2[Tag, error] {
	return func(yield func(Tag, error) bool) {
		var tags []Tag
		err := s.store.Records(ctx, tagPrefix, func(key string, value []byte) error {
			name := key[len(tagPrefix):]
			root, err := decodeTag(name, value)
			tags = append(tags, Tag{Name: name, Root: root})
			return err
		})
		if err != nil {
			yield(Tag{}, fmt.Errorf("list tags: %w", err))
			return
		}
		for _, t := range tags {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func decodeTag(name string, value []byte) (cid.Cid, error) {
	var r tagRecord
	if err := decode(value, &r, &r.Version); err != nil {
		return cid.Undef, fmt.Errorf("tag %q: %w", name, err)
	}
	root, err := cid.Decode(r.Root)
	if err != nil {
		return cid.Undef, fmt.Errorf("tag %q: %w", name, err)
	}
	return root, nil
}

func checkTag(name string) error {
	if name == "" || len(name) > MaxTagName || !utf8.ValidString(name) {
		return fmt.Errorf("tag name %q is empty, longer than %d bytes or not UTF-8", name, MaxTagName)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("tag name %q has control characters", name)
		}
	}
	return nil
}

// MarkOwn records that this host made a commit. The mark keeps no block and outlives the pin.
func (s *Set) MarkOwn(ctx context.Context, commit cid.Cid) error {
	if !commit.Defined() {
		return errors.New("own mark without a commit")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.set(ctx, ownPrefix+commit.KeyString(), ownRecord{Version: recordVersion}); err != nil {
		return fmt.Errorf("mark %s as own: %w", commit, err)
	}
	return nil
}

// Own tells whether this host made a commit.
func (s *Set) Own(ctx context.Context, commit cid.Cid) (bool, error) {
	value, err := s.store.Record(ctx, ownPrefix+commit.KeyString())
	if err != nil || value == nil {
		return false, err
	}
	var r ownRecord
	if err := decode(value, &r, &r.Version); err != nil {
		return false, fmt.Errorf("own mark of %s: %w", commit, err)
	}
	return true, nil
}
