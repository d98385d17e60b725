package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// PackRecords joins the records of a unit into one value, for backends that
// keep a unit's records together: a record is its length (unsigned varint) and its bytes.
func PackRecords(records [][]byte) []byte {
	size := 0
	for _, r := range records {
		size += binary.MaxVarintLen32 + len(r)
	}
	packed := make([]byte, 0, size)
	for _, r := range records {
		packed = binary.AppendUvarint(packed, uint64(len(r)))
		packed = append(packed, r...)
	}
	return packed
}

// UnpackRecords is the inverse of [PackRecords]. The records are parts of
// packed. Bytes that are not such a value: [ErrCorrupt].
func UnpackRecords(packed []byte) ([][]byte, error) {
	var records [][]byte
	for len(packed) > 0 {
		size, n := binary.Uvarint(packed)
		if n <= 0 || size > uint64(len(packed)-n) {
			return nil, fmt.Errorf("%w: packed records end early", ErrCorrupt)
		}
		end := n + int(size)
		records = append(records, packed[n:end:end])
		packed = packed[end:]
	}
	return records, nil
}

// PackParts makes one value of Run.Copied, for backends that store it as one: of each part the 16 bytes of Run and
// the 8 of Seq, the highest first. Nothing: nil.
func PackParts(parts []Part) []byte {
	var packed []byte
	for _, p := range parts {
		packed = append(packed, p.Run[:]...)
		packed = binary.BigEndian.AppendUint64(packed, uint64(p.Seq))
	}
	return packed
}

// UnpackParts is the inverse of [PackParts]. Bytes that are not such a value: [ErrCorrupt].
func UnpackParts(packed []byte) ([]Part, error) {
	var parts []Part
	for ; len(packed) >= 24; packed = packed[24:] {
		parts = append(parts, Part{Run: ID(packed[:16]), Seq: int64(binary.BigEndian.Uint64(packed[16:]))})
	}
	if len(packed) > 0 {
		return nil, fmt.Errorf("%w: the parts of a copied run end early", ErrCorrupt)
	}
	return parts, nil
}

// SealMark begins every value that package sealed writes. No value of a program is to begin with it.
const SealMark = "\x00fs\x01"

// Unsealed refuses, as [ErrUnopened], a value that a backend without package sealed returned, and that was written with it.
func Unsealed(value []byte) error {
	if bytes.HasPrefix(value, []byte(SealMark)) {
		return fmt.Errorf("%w: it is sealed; wrap the backend with sealed.New", ErrUnopened)
	}
	return nil
}
