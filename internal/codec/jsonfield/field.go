// Package jsonfield says which members encoding/json writes of a struct, for
// the packages that must know it before there is a value.
package jsonfield

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Field is one JSON member of a struct.
type Field struct {
	Name  string // in JSON
	Go    string // the way to it in Go, as "Base.ID"
	Index []int
	Type  reflect.Type
	// Quoted: the option string has an effect.
	Quoted bool
	// OmitEmpty and OmitZero are the options of these names.
	OmitEmpty, OmitZero bool
	// Behind: the field is inside an embedded pointer, so it may not be there at all.
	Behind bool
	// Tag is that of the field.
	Tag reflect.StructTag
}

// Of lists the members of the struct type t in the order in which they are
// written. What encoding/json would drop without a word, because names collide or no
// field is exported, is an error that names the fields.
func Of(t reflect.Type) ([]Field, error) {
	c := collector{names: map[string]string{}, within: map[reflect.Type]bool{}}
	if err := c.collect(t, Field{}); err != nil {
		return nil, err
	}
	return c.fields, nil
}

// Omits reports whether v, a value of the field, is left out.
func (f *Field) Omits(v reflect.Value) bool {
	if f.OmitZero && v.IsZero() {
		return true
	}
	if !f.OmitEmpty {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// Embeds reports whether an anonymous field of type t without a name in its
// tag gives its members to the struct around it, and is not a member itself.
func Embeds(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

type collector struct {
	fields []Field
	names  map[string]string // JSON name → Go path of who has it
	within map[reflect.Type]bool
}

// collect adds the fields of t, which is embedded at the place that at describes.
func (c *collector) collect(t reflect.Type, at Field) error {
	if c.within[t] {
		return fmt.Errorf("%s embeds itself; make %s a named field", t, strings.TrimSuffix(at.Go, "."))
	}
	c.within[t] = true
	defer delete(c.within, t)

	visible, hidden := 0, 0
	for sf := range t.Fields() {
		tag := sf.Tag.Get("json")
		embeds := sf.Anonymous && Embeds(sf.Type)
		switch {
		case tag == "-":
			visible++ // left out by the author's own word
			continue
		case !sf.IsExported() && !embeds:
			if sf.Name != "_" && sf.Type.Size() > 0 {
				hidden++
			}
			continue
		}
		visible++
		f := c.field(sf, at)
		if embeds && f.Name == "" {
			if err := c.embed(f, sf); err != nil {
				return err
			}
			continue
		}
		if !sf.IsExported() {
			return fmt.Errorf("the embedded field %s is unexported and has the JSON name %q; export it, or drop the name", f.Go, f.Name)
		}
		if f.Name == "" {
			f.Name = sf.Name
		}
		if other, ok := c.names[f.Name]; ok {
			return fmt.Errorf("the fields %s and %s are both named %q in JSON, so one would be dropped; give one another name, or the tag `json:\"-\"`", other, f.Go, f.Name)
		}
		c.names[f.Name] = f.Go
		c.fields = append(c.fields, f)
	}
	if visible == 0 && hidden > 0 {
		return fmt.Errorf("%s has no exported field, so nothing of it would be stored; export what matters, give it MarshalJSON and UnmarshalJSON, or leave it out with the tag `json:\"-\"`", t)
	}
	return nil
}

// field reads a field's tag. The name is "" if the tag gives none.
func (c *collector) field(sf reflect.StructField, at Field) Field {
	name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
	if !validName(name) {
		name = ""
	}
	f := Field{
		Name: name, Go: at.Go + sf.Name, Type: sf.Type, Tag: sf.Tag, Behind: at.Behind,
		Index: append(slices.Clip(at.Index), sf.Index...),
	}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "omitempty":
			f.OmitEmpty = true
		case "omitzero":
			f.OmitZero = true
		case "string":
			f.Quoted = quotable(sf.Type)
		}
	}
	return f
}

func (c *collector) embed(f Field, sf reflect.StructField) error {
	t := sf.Type
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
		if !sf.IsExported() {
			return fmt.Errorf("the embedded *%s is unexported, so it can't be set when it is read; embed it without the pointer", t)
		}
	}
	before := len(c.fields)
	if err := c.collect(t, Field{Go: f.Go + ".", Index: f.Index, Behind: f.Behind || pointer}); err != nil {
		return err
	}
	if pointer {
		for _, f := range c.fields[before:] {
			if !f.OmitEmpty && !f.OmitZero {
				return nil
			}
		}
		return fmt.Errorf("the embedded *%s has no field that is always written, so nil and empty would be the same; embed it without the pointer, or name it", t)
	}
	return nil
}

// quotable reports whether the option string has an effect on type t.
func quotable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer && t.Name() == "" {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	default:
		return false
	}
}

// validName reports whether encoding/json takes s as a name from a tag.
func validName(s string) bool {
	for _, c := range s {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return false
		}
	}
	return s != ""
}
