//! What a job may do: parsed, merged, and valid by construction.
