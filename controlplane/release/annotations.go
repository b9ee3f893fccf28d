package release

import "strings"

// Limits of annotations.
const (
	MaxAnnotations      = 16        // entries
	MaxAnnotationBytes  = 32 << 10  // keys and values of a route or a stage
	MaxAPIAnnotations   = 128 << 10 // keys and values of an API, in bytes
	maxAnnotationKey    = 64
	annotationKeyLetter = alphanumeric + "._-/"
)

// CheckAnnotations notes what is wrong with what others keep about an object: it
// goes through the log and is held in memory, so it is bounded.
func CheckAnnotations(v *Violations, field string, annotations map[string]string, limit int) {
	if len(annotations) > MaxAnnotations {
		v.Addf(field, "has %d entries, at most %d are allowed", len(annotations), MaxAnnotations)
	}
	size := 0
	for _, key := range sortedKeys(annotations) {
		if key == "" || len(key) > maxAnnotationKey || strings.Trim(key, annotationKeyLetter) != "" {
			v.Addf(field, "key %q must have 1 to %d letters, digits and ._-/", key, maxAnnotationKey)
		}
		size += len(key) + len(annotations[key])
	}
	if size > limit {
		v.Addf(field, "has %d bytes, at most %d are allowed", size, limit)
	}
}
