package local

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ipfs/go-cid"
)

// ownKey is where a user's mark is. The record without a user is root's: no CID is the beginning of another
// key, since a CID says where it ends.
func ownKey(commit cid.Cid, uid uint32) string {
	key := ownPrefix + commit.KeyString()
	if uid != 0 {
		key += "/" + strconv.FormatUint(uint64(uid), 10)
	}
	return key
}

// MarkOwnBy records that a user of this host made a commit. The mark keeps no block and outlives the pin.
func (s *Set) MarkOwnBy(ctx context.Context, commit cid.Cid, uid uint32) error {
	if !commit.Defined() {
		return errors.New("own mark without a commit")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.set(ctx, ownKey(commit, uid), ownRecord{Version: recordVersion}); err != nil {
		return fmt.Errorf("mark %s as made by user %d: %w", commit, uid, err)
	}
	return nil
}

// OwnBy tells whether root marked a commit, or this very user did: what anybody else says of it must not
// count for them.
func (s *Set) OwnBy(ctx context.Context, commit cid.Cid, uid uint32) (bool, error) {
	for _, who := range []uint32{0, uid} {
		value, err := s.store.Record(ctx, ownKey(commit, who))
		if err != nil {
			return false, err
		}
		if value == nil {
			continue
		}
		var r ownRecord
		if err := decode(value, &r, &r.Version); err != nil {
			return false, fmt.Errorf("own mark of %s by user %d: %w", commit, who, err)
		}
		return true, nil
	}
	return false, nil
}

// ownedBySomebody tells whether any user of this host made a commit.
func (s *Set) ownedBySomebody(ctx context.Context, commit cid.Cid) (own bool, _ error) {
	return own, s.store.Records(ctx, ownPrefix+commit.KeyString(), func(string, []byte) error {
		own = true
		return nil
	})
}
