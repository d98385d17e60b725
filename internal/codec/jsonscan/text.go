package jsonscan

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendQuoted appends s as a JSON string, byte for byte as encoding/json does
// without HTML escaping. It reports false, and a prefix, if s is not UTF-8.
func AppendQuoted(dst []byte, s string) ([]byte, bool) {
	dst = append(dst, '"')
	for {
		n, ascii := plainPrefix([]byte(s))
		if !ascii {
			if !utf8.ValidString(s[:n]) {
				return dst, false
			}
			dst = appendSeparators(dst, s[:n])
		} else {
			dst = append(dst, s[:n]...)
		}
		if n == len(s) {
			return append(dst, '"'), true
		}
		switch c := s[n]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[n+1:]
	}
}

// appendSeparators appends s with U+2028 and U+2029 escaped: JSON allows
// them, JavaScript before 2019 didn't, and encoding/json writes them so.
func appendSeparators(dst []byte, s string) []byte {
	for i := 0; ; {
		n := strings.IndexByte(s[i:], "\u2028"[0])
		if n < 0 {
			return append(dst, s...)
		}
		i += n
		if sep := s[i:min(i+3, len(s))]; sep != "\u2028" && sep != "\u2029" {
			i++
			continue
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, `\u202`...)
		dst = append(dst, s[i+2]-"\u2028"[2]+'8')
		s, i = s[i+3:], 0
	}
}

// Unquote returns the string that text, as [Scanner.Skip] returned it, stands for.
func Unquote(text []byte) string {
	text = text[1 : len(text)-1]
	n, _ := plainPrefix(text)
	if n == len(text) {
		return string(text)
	}
	b := make([]byte, 0, len(text))
	for {
		b = append(b, text[:n]...)
		if n == len(text) {
			return string(b)
		}
		text = text[n:]
		switch c := text[1]; c {
		case 'u':
			r, size := unicodeEscape(text)
			b = utf8.AppendRune(b, r)
			text = text[size:]
			n, _ = plainPrefix(text)
			continue
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		default:
			b = append(b, c)
		}
		text = text[2:]
		n, _ = plainPrefix(text)
	}
}

// Pointer returns the JSON Pointer (RFC 6901) of the given path from the root.
func Pointer(path []string) string {
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		if strings.ContainsAny(p, "~/") {
			p = strings.ReplaceAll(strings.ReplaceAll(p, "~", "~0"), "/", "~1")
		}
		b.WriteString(p)
	}
	return b.String()
}

// unicodeEscape reads a \u escape, or two that make a surrogate pair, and
// returns how long it is. It returns size 0 if the digits are wrong, and
// U+FFFD for half of a pair.
func unicodeEscape(b []byte) (r rune, size int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := hex4(b[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// hex4 reads \uXXXX at the start of b.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
