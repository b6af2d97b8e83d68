# Plain comments to those that doxygen reads: the file's, of what follows, of what stands before.
1s,^// ,/// @file\n/// ,
1s,^/\* ,/** @file\n * ,
s,^( *)/\* ([^-]),\1/** \2,
s,^( *)//( [^-]|$),\1///\2,
s,([;\,{)}]) +// ,\1 ///< ,
s,([;\,]) +/\* ,\1 /**< ,
\,^ */// ,s,#include,\\#include,
