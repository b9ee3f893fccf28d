package release

// The reasons that only rotations of the root give.
const (
	RotationOpen Reason = "ROTATION_OPEN"
	NoRotation   Reason = "NO_ROTATION"
)

// InRotation refuses a step of a rotation of the root from where it is.
func InRotation(phase, format string, args ...any) *Refusal {
	return refuse(RotationOpen, "authority", format, args...).with("phase", phase)
}

// NotInRotation refuses a step of a rotation that is not under way.
func NotInRotation() *Refusal {
	return refuse(NoRotation, "authority", "no rotation of the root is under way; begin one first")
}
