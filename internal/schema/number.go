package schema

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

const maxDigits = 1000 // of a whole number without bounds

// loose checks a number that will be held as float64.
func (c *checker) loose(text []byte) {
	x, err := strconv.ParseFloat(string(text), 64)
	switch {
	case err != nil:
		c.fault("is too large a number")
	case len(text) > 15 && wholeNumber(text) && strconv.FormatFloat(x, 'f', -1, 64) != string(text):
		c.fault("has too many digits to be kept exactly; send it as text")
	}
}

// wholeNumber reports whether a number is written without a fraction and exponent.
func wholeNumber(text []byte) bool {
	for _, b := range text {
		if b == '.' || b|0x20 == 'e' {
			return false
		}
	}
	return string(text) != "-0"
}

func (c *checker) number(n *node, text []byte) {
	if n.types != 0 && n.types&numberType == 0 {
		if !wholeNumber(text) {
			c.fault("must be a whole number, written without a fraction or exponent")
			return
		}
		if len(text) > maxDigits {
			c.fault("has more than %d digits", maxDigits)
			return
		}
	} else if _, err := strconv.ParseFloat(string(text), n.floatBits()); err != nil {
		c.fault("is too large a number")
		return
	}
	if reason := outOfRange(n.format, string(text)); reason != "" {
		c.fault("%s", reason)
		return
	}
	switch {
	case n.minimum != nil && compare(text, *n.minimum) < 0:
		c.fault("must be at least %s", show(*n.minimum))
	case n.maximum != nil && compare(text, *n.maximum) > 0:
		c.fault("must be at most %s", show(*n.maximum))
	case n.above != nil && compare(text, *n.above) <= 0:
		c.fault("must be more than %s", show(*n.above))
	case n.below != nil && compare(text, *n.below) >= 0:
		c.fault("must be less than %s", show(*n.below))
	}
}

func (n *node) floatBits() int {
	if n.format == "float" {
		return 32
	}
	return 64
}

func show(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// compare compares a number with a bound, exactly if it is a whole number.
func compare(text []byte, bound float64) int {
	const exact = 1 << 53
	x, _ := strconv.ParseFloat(string(text), 64)
	if (x >= exact || x <= -exact) && len(text) <= maxDigits {
		if n, ok := new(big.Int).SetString(string(text), 10); ok {
			return new(big.Float).SetInt(n).Cmp(big.NewFloat(bound))
		}
	}
	return cmp.Compare(x, bound)
}

// outOfRange says what is wrong with a whole number in the format of a Go
// integer, spelled as strconv spells it; "" for nothing or another format.
func outOfRange(format, text string) string {
	digits, ok := strings.CutPrefix(strings.TrimPrefix(format, "u"), "int")
	bits, err := strconv.Atoi(digits)
	if !ok || err != nil || bits < 8 || bits > 64 {
		return ""
	}
	var from, to string
	if format[0] == 'u' {
		n, err := strconv.ParseUint(text, 10, bits)
		if err == nil && strconv.FormatUint(n, 10) == text {
			return ""
		}
		from, to = "0", strconv.FormatUint(math.MaxUint64>>(64-bits), 10)
	} else {
		n, err := strconv.ParseInt(text, 10, bits)
		if err == nil && strconv.FormatInt(n, 10) == text {
			return ""
		}
		from, to = strconv.FormatInt(math.MinInt64>>(64-bits), 10), strconv.FormatInt(math.MaxInt64>>(64-bits), 10)
	}
	return fmt.Sprintf("must be a whole number from %s to %s", from, to)
}
