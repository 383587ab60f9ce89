# Writes the bytes of INPUT as a C array NAME, and their number as NAME_length, to OUTPUT.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "#include \"openapi.h\"\n\nconst unsigned char ${NAME}[] = {${bytes}};\nconst size_t ${NAME}_length = sizeof ${NAME};\n")
