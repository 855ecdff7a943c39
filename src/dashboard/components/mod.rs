//! TODO

pub(in crate::dashboard) mod chart;
pub(in crate::dashboard) mod filters;
pub(in crate::dashboard) mod form;
pub(in crate::dashboard) mod format;
pub(in crate::dashboard) mod hints;
pub(in crate::dashboard) mod list;
pub(in crate::dashboard) mod parts;
pub(in crate::dashboard) mod payload;
pub(in crate::dashboard) mod picker;
pub(in crate::dashboard) mod range;
pub(in crate::dashboard) mod refused;
pub(in crate::dashboard) mod time_input;
